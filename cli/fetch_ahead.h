/*-------------------------------------------------------------------------
 *
 * fetch_ahead.h
 *	  What the threads of the process that reads ahead share.
 *
 * The mutex covers all of struct Ahead but the readers and the files that they
 * write, which belong to the threads that read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_CLI_FETCH_AHEAD_H
#define WA_CLI_FETCH_AHEAD_H

#include "fetch.h"

#include <pthread.h>

/* Files that are known at a time, and those of them that are read ahead. */
#define MAX_ITEMS 72
#define MAX_AHEAD 64

#define MAX_CLIENTS 8

/* Threads that read: checking a segment takes one longer than copying it takes cp. */
#define FETCH_READERS 2

typedef enum ItemState
{
	ITEM_FREE,
	ITEM_WAITING, /* to be read */
	ITEM_READING,
	ITEM_READY, /* in the spool under its name */
	ITEM_OVER   /* asked for, and not to be had: outcome and text say why */
} ItemState;

typedef struct Item
{
	ItemState state;
	char name[FETCH_NAME_LEN];
	bool segment;
	TimeLineID tli;
	uint64 segno;
	bool wanted;       /* somebody asks for it */
	bool dropped;      /* of READING: nobody will */
	bool useless;      /* of READING: what comes is not kept */
	double since;      /* when it was asked for first */
	double not_before; /* when it is tried again */
	int attempts;
	FetchOutcome outcome;
	char text[FETCH_TEXT_LEN];
	FetchFile file; /* its reader's */
} Item;

struct Ahead;

/*
 * One that reads.  The first one reads whatever is asked for; the others, with
 * an archive of their own, only what comes behind.
 */
typedef struct FetchReader
{
	struct Ahead *ahead;
	bool helper;
	Archive *archive;
	Item *reading[MAX_ITEMS]; /* in the order in which they come */
	int nreading;
} FetchReader;

typedef struct Client
{
	int fd; /* -1: free */
	double since;
	size_t used;
	char request[FETCH_FINGERPRINT_LEN + FETCH_NAME_LEN + 8];
	Item *item; /* that it waits for; NULL: has not asked yet */
} Client;

typedef struct Ahead
{
	const FetchOptions *options;
	const char *fingerprint;
	int home;      /* folder in which the server's commands are started */
	int listener;  /* socket */
	int wake[2];   /* pipe from the readers to the thread that answers */
	pid_t server;  /* of postmaster.pid; 0: not known */
	bool recovers; /* there was a signal file */

	pthread_mutex_t mutex;
	pthread_cond_t work; /* there may be something to read */
	bool has_layout;
	ArchiveLayout layout;
	Item item[MAX_ITEMS];
	FetchReader reader[FETCH_READERS];

	/* the segments that are read ahead: behind the one that was asked for last */
	TimeLineID tli; /* 0: none was */
	uint64 current;
	uint64 next;
	uint64 end;   /* not this one and none behind it */
	int in_a_row; /* so many were delivered, one after the other */

	Client client[MAX_CLIENTS];
	double last_request;
} Ahead;

/* A file of the spool: its name and a suffix, into MAXPGPATH bytes. */
extern void spool_path(char *path, const char *name, const char *suffix);

/* ---- inside the mutex ---- */

/* The item of a file, NULL: there is none.  A new one, NULL: there are too many. */
extern Item *find_item(Ahead *ahead, const char *name);
extern Item *new_item(Ahead *ahead, const char *name);

/*
 * A file was asked for, and the layout is known: what is it, and where is the
 * recovery now?
 */
extern void locate(Ahead *ahead, Item *item);

/* A thread that reads; 'arg' is a FetchReader.  Only a helper ever returns. */
extern void *read_ahead(void *arg);

#endif /* WA_CLI_FETCH_AHEAD_H */
