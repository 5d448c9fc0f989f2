/*-------------------------------------------------------------------------
 *
 * fetch.h
 *	  What fetch.c and fetch_ahead.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_FETCH_H
#define WA_CLI_FETCH_H

#include "postgres_fe.h"

#include "archive.h"
#include "fetch_file.h"
#include "fetch_link.h"

typedef struct FetchOptions
{
	CliOptions common;
	bool standby;     /* --mode=standby */
	const char *plan; /* a plan's ref; NULL: none */
	uint64 ahead;     /* bytes that are read ahead at most */
	bool no_prefetch;
} FetchOptions;

/* What became of a file. */
typedef enum FetchOutcome
{
	FETCH_HERE,   /* it is there, checked */
	FETCH_ABSENT, /* proved */
	FETCH_WAIT,   /* it will be there in a moment */
	FETCH_RETRY,  /* perhaps it goes better in a moment */
	FETCH_FAILED  /* it does not */
} FetchOutcome;

/* What a WAL file's state means for the recovery; 'text' gets what to say. */
extern FetchOutcome fetch_judge(const FetchOptions *options, const WalFileInfo *info, char *text);

/* What an error of the archive means. */
extern FetchOutcome fetch_judge_error(ArchiveStatus status);

/* The exit code of an outcome that stands. */
extern int fetch_exit_code(const FetchOptions *options, FetchOutcome outcome);

/* Seconds since some moment. */
extern double fetch_now(void);

/*
 * Make the spool in the present folder and start the process that reads ahead
 * and serves it.  'home' is a descriptor of the folder in which the command was
 * started.  Returns false, with a reason in 'text', if that can't be; true also
 * where somebody else does it.
 */
extern bool fetch_start_ahead(const FetchOptions *options, const char *fingerprint, int home, char *text);

#endif /* WA_CLI_FETCH_H */
