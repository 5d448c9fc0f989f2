/*-------------------------------------------------------------------------
 *
 * indexer.h
 *	  Entry point of the indexer, for the launcher to register by name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_INDEXER_H
#define WA_INDEXER_H

#include "postgres.h"

#define WA_INDEXER_FUNCTION "wa_indexer_main"

extern PGDLLEXPORT void wa_indexer_main(Datum main_arg);

#endif /* WA_INDEXER_H */
