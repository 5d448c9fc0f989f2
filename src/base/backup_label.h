/*-------------------------------------------------------------------------
 *
 * backup_label.h
 *	  What a base backup may be called: its label is a folder's name.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WA_BACKUP_LABEL_H
#define WA_BACKUP_LABEL_H

#include "base.h"

/* with the NUL */
#define WA_BACKUP_LABEL_LEN 65

/* What is added to the folder's name while a backup is taken, and while it is removed. */
#define WA_BACKUP_RUNNING_SUFFIX ".tmp"
#define WA_BACKUP_DELETED_SUFFIX ".deleted"

/*
 * True for 1 to 64 characters of A-Z, a-z, 0-9, '_', '-' and '.', the first a
 * letter or digit, and neither of the two suffixes at the end.
 */
extern bool wa_backup_label_is_valid(const char *label);

#endif /* WA_BACKUP_LABEL_H */
