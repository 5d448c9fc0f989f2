/*-------------------------------------------------------------------------
 *
 * unpack.h
 *	  Unpacks the archives of a base backup and checks each file in them
 *	  against the manifest while it is written.
 *
 * The calling thread reads, decompresses (libarchive) and takes the tar apart
 * (src/base/tar_reader.h: nothing passes that a base backup never has); worker
 * threads compute checksums and write.  What they hold between them is bounded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_UNPACK_H
#define WA_UNPACK_H

#include "manifest_index.h"

/*
 * Where an archive's bytes come from: the next ones into '*data', valid until
 * the next call.  Returns how many, 0 at the end, -1 on failure, which the
 * source has reported or will.
 */
typedef struct UnpackSource
{
	ssize_t (*read)(void *arg, const void **data);
	void *arg;
} UnpackSource;

typedef struct Unpack Unpack;

/*
 * Begin with the archives of one backup.  With 'hold_control' global/pg_control
 * is checked, but not written: without it PostgreSQL can't be started.
 */
extern Unpack *unpack_begin(ManifestIndex *manifest, int workers, bool hold_control);

/*
 * One archive, by its name ("base.tar.zst"), into 'folder', which is there and
 * empty.  'prefix' is what stands before its paths in the manifest: "" or
 * "pg_tblspc/<oid>/".  Returns false if anything is wrong; unpack_problem says
 * what, or is NULL if it was the source.
 */
extern bool unpack_archive(Unpack *unpack, const char *name, const char *folder, const char *prefix,
						   const UnpackSource *source);

/* Waits for the workers, and checks that nothing of the manifest is missing. */
extern bool unpack_finish(Unpack *unpack);

extern const char *unpack_problem(const Unpack *unpack);

/* True if the problem is the backup's, not this machine's. */
extern bool unpack_is_damage(const Unpack *unpack);

/* Bytes of files that were unpacked so far; may be asked at any time. */
extern uint64 unpack_bytes(Unpack *unpack);

/* What was held back: pg_control, NULL if there was none. */
extern const char *unpack_control(const Unpack *unpack, size_t *len);

/* True if the cluster's folders were open to its group. */
extern bool unpack_group_access(const Unpack *unpack);

/* Stops the workers and frees all. */
extern void unpack_end(Unpack *unpack);

#endif /* WA_UNPACK_H */
