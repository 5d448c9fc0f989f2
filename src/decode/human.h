/*-------------------------------------------------------------------------
 *
 * human.h
 *	  walarchive-decode on the command line.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_HUMAN_H
#define WA_HUMAN_H

/* Exit code: 0 all is well, 1 WAL is damaged, missing or unreadable, 2 wrong usage. */
extern int wa_human_main(int argc, char **argv);

#endif /* WA_HUMAN_H */
