/*-------------------------------------------------------------------------
 *
 * fault_point.h
 *	  Places where a test build fails, cuts short, delays or dies on command.
 *
 * Nothing of it is in an ordinary build: the macros stand for the calls that
 * they wrap.  With -DWA_FAULT_POINTS each system call on the way of the WAL to
 * its confirmation, and each other that changes the archive, is a point with a
 * name, armed through the file that walarchive.fault_file names: see
 * fault_point.c for its form, t/066_fault_points.pl for its use, and
 * test/faults/build_points for how such a library is built.
 *
 *	  n = WA_FAULT(SEGMENT_WRITE, pwrite(fd, data, WA_SHORT(len), offset));
 *
 * The point comes first, then the call, which must return -1 and set errno if
 * it fails.  WA_SHORT(len) is half of len while the call is to be cut short.
 * It may be used in threads that make system calls only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_FAULT_POINT_H
#define WA_FAULT_POINT_H

#include <sys/types.h>

#ifdef WA_FAULT_POINTS

/* the order is that of the entries in the file */
#define WA_FAULT_POINT_LIST(POINT)                                       \
	/* a segment's bytes, size and name; src/capture */                  \
	POINT(SEGMENT_WRITE, "segment-write")                                \
	POINT(SEGMENT_FDATASYNC, "segment-fdatasync")                        \
	POINT(SEGMENT_RENAME, "segment-rename")                              \
	POINT(SEGMENT_RENAME_TWICE, "segment-rename-twice")                  \
	POINT(DIRECTORY_FSYNC, "directory-fsync")                            \
	POINT(FEEDBACK_SEND, "feedback-send")                                \
	POINT(FEEDBACK_FLUSH, "feedback-flush")                              \
	POINT(RESERVE_CREATE, "reserve-create")                              \
	POINT(RESERVE_ALLOCATE, "reserve-allocate")                          \
	POINT(RESERVE_TRUNCATE, "reserve-truncate")                          \
	POINT(RESERVE_REMOVE, "reserve-remove")                              \
	POINT(PREPARE_CREATE, "prepare-create")                              \
	POINT(PREPARE_WRITE, "prepare-write")                                \
	POINT(PREPARE_FSYNC, "prepare-fsync")                                \
	POINT(PREPARE_REMOVE, "prepare-remove")                              \
	POINT(LEFTOVER_REMOVE, "leftover-remove")                            \
	POINT(START_DIRECTORY_FSYNC, "start-directory-fsync")                \
	POINT(REOPEN_EXTEND, "reopen-extend")                                \
	POINT(REOPEN_FSYNC, "reopen-fsync")                                  \
	POINT(SET_ASIDE_RENAME, "set-aside-rename")                          \
	POINT(SET_ASIDE_REMOVE, "set-aside-remove")                          \
	POINT(SET_ASIDE_FSYNC, "set-aside-fsync")                            \
	POINT(UNSYNCED_REMOVE, "unsynced-remove")                            \
	POINT(DROP_RENAME, "drop-rename")                                    \
	/* small files: settings, histories, journal, locks; src/state */    \
	POINT(LOCK_CREATE, "lock-create")                                    \
	POINT(FOLDER_CREATE, "folder-create")                                \
	POINT(FILE_CREATE, "file-create")                                    \
	POINT(FILE_WRITE, "file-write")                                      \
	POINT(FILE_FSYNC, "file-fsync")                                      \
	POINT(FILE_RENAME, "file-rename")                                    \
	POINT(FILE_REMOVE, "file-remove")                                    \
	POINT(PARENT_FSYNC, "parent-fsync")                                  \
	POINT(LINES_CREATE, "lines-create")                                  \
	POINT(LINES_WRITE, "lines-write")                                    \
	POINT(LINES_FSYNC, "lines-fsync")                                    \
	POINT(LINES_PARENT_FSYNC, "lines-parent-fsync")                      \
	/* the catalog, and the files that the indexer keeps; src/catalog */ \
	POINT(CATALOG_COMMIT, "catalog-commit")                              \
	POINT(SUMS_CREATE, "sums-create")                                    \
	POINT(SUMS_TRUNCATE, "sums-truncate")                                \
	POINT(SUMS_WRITE, "sums-write")                                      \
	POINT(SUMS_FSYNC, "sums-fsync")                                      \
	POINT(SUMS_PARENT_FSYNC, "sums-parent-fsync")                        \
	POINT(EXPIRE_REMOVE, "expire-remove")                                \
	POINT(EXPIRE_FSYNC, "expire-fsync")                                  \
	POINT(EXPIRE_SUMS_REMOVE, "expire-sums-remove")                      \
	POINT(EXPIRE_SUMS_CREATE, "expire-sums-create")                      \
	POINT(EXPIRE_SUMS_WRITE, "expire-sums-write")                        \
	POINT(EXPIRE_SUMS_FSYNC, "expire-sums-fsync")                        \
	POINT(EXPIRE_SUMS_RENAME, "expire-sums-rename")                      \
	POINT(ATTACH_FSYNC, "attach-fsync")                                  \
	POINT(ATTACH_RENAME, "attach-rename")                                \
	/* base backups; src/backup and src/state/backup_file.c */           \
	POINT(BACKUP_CREATE, "backup-create")                                \
	POINT(BACKUP_WRITE, "backup-write")                                  \
	POINT(BACKUP_FSYNC, "backup-fsync")                                  \
	POINT(BACKUP_RENAME, "backup-rename")                                \
	POINT(BACKUP_PARENT_FSYNC, "backup-parent-fsync")                    \
	POINT(BACKUP_SPILL_CREATE, "backup-spill-create")                    \
	POINT(BACKUP_SPILL_WRITE, "backup-spill-write")                      \
	POINT(BACKUP_REMOVE_FILE, "backup-remove-file")                      \
	POINT(BACKUP_REMOVE_FOLDER, "backup-remove-folder")                  \
	POINT(BACKUP_DOOM_RENAME, "backup-doom-rename")                      \
	POINT(BACKUP_DOOM_FSYNC, "backup-doom-fsync")

#define WA_FAULT_POINT_NAME(symbol, name) WA_FAULT_##symbol,
typedef enum WaFaultPoint
{
	WA_FAULT_POINT_LIST(WA_FAULT_POINT_NAME)
		WA_FAULT_POINT_COUNT
} WaFaultPoint;

/* Called by _PG_init while preloading: makes the setting, maps the file. */
extern void wa_fault_init(void);

/*
 * The point is passed.  Returns true if its call is not to be made but to
 * fail, with errno set; may rest for a while, and may not return at all.
 */
extern bool wa_fault_before(WaFaultPoint point);

/* After the call, with its result, which is returned; may not return. */
extern ssize_t wa_fault_after(ssize_t result);

/* 'len', or half of it if the call that is being made is to be cut short. */
extern size_t wa_fault_length(size_t len);

/* Raise the error of a point that fails by ereport. */
extern void wa_fault_raise(WaFaultPoint point);

#define WA_FAULT(point, call) (wa_fault_before(WA_FAULT_##point) ? -1 : wa_fault_after(call))
#define WA_SHORT(len) wa_fault_length(len)
#define WA_FAULT_RAISE(point) wa_fault_raise(WA_FAULT_##point)
#define WA_FAULT_DONE() ((void) wa_fault_after(0))

#else

#define WA_FAULT(point, call) (call)
#define WA_SHORT(len) (len)
#define WA_FAULT_RAISE(point) ((void) 0)
#define WA_FAULT_DONE() ((void) 0)

#endif /* WA_FAULT_POINTS */
#endif /* WA_FAULT_POINT_H */
