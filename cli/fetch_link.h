/*-------------------------------------------------------------------------
 *
 * fetch_link.h
 *	  How "walarchive fetch" asks the process that reads ahead.
 *
 * PostgreSQL starts a restore_command for each file, so what starts must be
 * light: this is plain C, without libpq and without PostgreSQL's headers, and
 * is all that the program "walarchive" itself has (front.c).
 *
 * The process that reads ahead keeps its files in a folder beside the target,
 * on the same file system, so that they are delivered by a rename.  The folder's
 * name begins with pgsql_tmp: base backups and pg_rewind skip it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_FETCH_LINK_H
#define WA_FETCH_LINK_H

#include <stdbool.h>
#include <stddef.h>

#define FETCH_SPOOL "pgsql_tmp_walarchive"
#define FETCH_SOCKET FETCH_SPOOL "/socket"

/* "000000010000000000000007" and the NUL */
#define FETCH_NAME_LEN 64
#define FETCH_FINGERPRINT_LEN 17
#define FETCH_MESSAGE_LEN 2048

/*
 * Exit code where recovery must stop: PostgreSQL takes codes up to 125 for "there
 * is no such file".
 */
#define FETCH_STOP 126

/* fetch_ask: nobody reads ahead here, or for another command line */
#define FETCH_NOBODY (-1)

/* What the command line of "fetch" asks for. */
typedef struct FetchRequest
{
	const char *name;                        /* of the file */
	const char *path;                        /* where it has to go */
	char fingerprint[FETCH_FINGERPRINT_LEN]; /* of all else on the command line */
} FetchRequest;

/* Is this the name of a WAL segment or of a timeline history? */
extern bool fetch_is_wal_name(const char *name);

/*
 * Find the file's name, and behind it where it has to go, in the arguments of
 * "fetch" (argv[0] is not looked at), and make the fingerprint of all others.
 * False if that can't be told without knowing the options.
 */
extern bool fetch_find_request(int argc, char **argv, FetchRequest *request);

/* The same for known places of the two. */
extern void fetch_fingerprint(int argc, char **argv, int name, int path, char *fingerprint);

/*
 * Change to the folder that a file has to go to, and remember the present one.
 * Returns its last part, to be used from there; NULL with errno.  *back is a
 * descriptor for fetch_leave.
 */
extern const char *fetch_enter(const char *path, int *back);
extern void fetch_leave(int back);

/*
 * Ask for a file, from the folder that it has to go to; 'target' is its name
 * there.  Returns the exit code and, in 'message' (FETCH_MESSAGE_LEN bytes), what
 * to say; or FETCH_NOBODY.
 */
extern int fetch_ask(const FetchRequest *request, const char *target, char *message);

#endif /* WA_FETCH_LINK_H */
