/*-------------------------------------------------------------------------
 *
 * memory_limit.h
 *	  How much memory a server at the other end can make a process take.
 *
 * libpq keeps what a server sends until it is whole: a message may claim two
 * gigabytes, a result set any number of rows, and parameters that a server
 * reports are kept for the connection's life.  libpq has no limit for that, and
 * a process that takes all memory takes the other sources with it.  So the
 * process gets a limit: an allocation beyond it fails, libpq gives the
 * connection up, and what it held is free again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_MEMORY_LIMIT_H
#define WA_MEMORY_LIMIT_H

/*
 * What one connection may take: a server that speaks the protocol needs less than
 * a hundredth.  Messages of WAL and of backups have some 100 kB, histories are
 * refused over 1 MB, and rows are read one by one where there can be many.
 */
#define WA_CONNECTION_MEMORY ((uint64) 512 * 1024 * 1024)

/*
 * Limit the private memory of this process to what it has now and so many
 * bytes more, unless its limit is lower already.  Returns the limit before, for
 * wa_restore_memory_limit.  Does nothing where the system does not say what a
 * process has, and in builds with a sanitizer, which keep what was freed.
 */
extern uint64 wa_limit_memory(uint64 bytes);

/* Set the limit that wa_limit_memory returned. */
extern void wa_restore_memory_limit(uint64 before);

#endif /* WA_MEMORY_LIMIT_H */
