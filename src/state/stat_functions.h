/*-------------------------------------------------------------------------
 *
 * stat_functions.h
 *	  What set-returning SQL functions of the module start with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_STAT_FUNCTIONS_H
#define WA_STAT_FUNCTIONS_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/execnodes.h"

/*
 * Begin a result in materialize mode with 'columns' columns.  Raises an error
 * if the library was not preloaded, or if the SQL declaration has another
 * number of columns: then library and extension are of different versions.
 */
extern ReturnSetInfo *wa_begin_rows(FunctionCallInfo fcinfo, int columns);

/*
 * 'text' itself if it is valid in the database's encoding, else a palloc'd
 * copy with '?' for each byte that is not ASCII.
 */
extern const char *wa_clean_text(const char *text);

#endif /* WA_STAT_FUNCTIONS_H */
