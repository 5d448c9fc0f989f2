/*-------------------------------------------------------------------------
 *
 * upkeep.h
 *	  Entry point of the upkeep worker, to be registered by name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_UPKEEP_H
#define WA_UPKEEP_H

#include "postgres.h"

#define WA_UPKEEP_FUNCTION "wa_upkeep_main"

extern PGDLLEXPORT void wa_upkeep_main(Datum main_arg);

#endif /* WA_UPKEEP_H */
