/*-------------------------------------------------------------------------
 *
 * wal_rmgr.c
 *	  Names of resource managers and record types.  See wal_event.h.
 *
 * They are what the 'identify' functions of each major's rmgrdesc say, and so
 * what its pg_waldump prints.  Numbers are never given away anew while they
 * are in use, but from 17 on pruning, vacuuming and freezing of a heap page
 * share records that 15 and 16 name differently.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_event.h"

#define RMGRS 22
#define FIRST_CUSTOM_RMGR 128

#define RM_HEAP2 9

typedef struct RmgrNames
{
	const char *name;
	const char *type[16]; /* by the upper four bits of xl_info */
} RmgrNames;

static const RmgrNames rmgr_names[RMGRS] = {
	{"XLOG",
	 {"CHECKPOINT_SHUTDOWN", "CHECKPOINT_ONLINE", "NOOP", "NEXTOID", "SWITCH",
	  "BACKUP_END", "PARAMETER_CHANGE", "RESTORE_POINT", "FPW_CHANGE",
	  "END_OF_RECOVERY", "FPI_FOR_HINT", "FPI", NULL, "OVERWRITE_CONTRECORD",
	  "CHECKPOINT_REDO"}},
	/* the highest bit says that there is an xinfo */
	{"Transaction",
	 {"COMMIT", "PREPARE", "ABORT", "COMMIT_PREPARED", "ABORT_PREPARED",
	  "ASSIGNMENT", "INVALIDATION", NULL,
	  "COMMIT", "PREPARE", "ABORT", "COMMIT_PREPARED", "ABORT_PREPARED",
	  "ASSIGNMENT", "INVALIDATION"}},
	{"Storage", {NULL, "CREATE", "TRUNCATE"}},
	{"CLOG", {"ZEROPAGE", "TRUNCATE"}},
	{"Database", {"CREATE_FILE_COPY", "CREATE_WAL_LOG", "DROP"}},
	{"Tablespace", {"CREATE", "DROP"}},
	{"MultiXact", {"ZERO_OFF_PAGE", "ZERO_MEM_PAGE", "CREATE_ID", "TRUNCATE_ID"}},
	{"RelMap", {"UPDATE"}},
	{"Standby", {"LOCK", "RUNNING_XACTS", "INVALIDATIONS"}},
	{"Heap2",
	 {"REWRITE", "PRUNE_ON_ACCESS", "PRUNE_VACUUM_SCAN", "PRUNE_VACUUM_CLEANUP",
	  "VISIBLE", "MULTI_INSERT", "LOCK_UPDATED", "NEW_CID",
	  NULL, NULL, NULL, NULL, NULL, "MULTI_INSERT+INIT"}},
	{"Heap",
	 {"INSERT", "DELETE", "UPDATE", "TRUNCATE", "HOT_UPDATE", "HEAP_CONFIRM",
	  "LOCK", "INPLACE", "INSERT+INIT", NULL, "UPDATE+INIT", NULL,
	  "HOT_UPDATE+INIT"}},
	{"Btree",
	 {"INSERT_LEAF", "INSERT_UPPER", "INSERT_META", "SPLIT_L", "SPLIT_R",
	  "INSERT_POST", "DEDUP", "DELETE", "UNLINK_PAGE", "UNLINK_PAGE_META",
	  "NEWROOT", "MARK_PAGE_HALFDEAD", "VACUUM", "REUSE_PAGE", "META_CLEANUP"}},
	{"Hash",
	 {"INIT_META_PAGE", "INIT_BITMAP_PAGE", "INSERT", "ADD_OVFL_PAGE",
	  "SPLIT_ALLOCATE_PAGE", "SPLIT_PAGE", "SPLIT_COMPLETE",
	  "MOVE_PAGE_CONTENTS", "SQUEEZE_PAGE", "DELETE", "SPLIT_CLEANUP",
	  "UPDATE_META_PAGE", "VACUUM_ONE_PAGE"}},
	{"Gin",
	 {NULL, "CREATE_PTREE", "INSERT", "SPLIT", "VACUUM_PAGE", "DELETE_PAGE",
	  "UPDATE_META_PAGE", "INSERT_LISTPAGE", "DELETE_LISTPAGE",
	  "VACUUM_DATA_LEAF_PAGE"}},
	{"Gist",
	 {"PAGE_UPDATE", "DELETE", "PAGE_REUSE", "PAGE_SPLIT", NULL, NULL,
	  "PAGE_DELETE", "ASSIGN_LSN"}},
	{"Sequence", {"LOG"}},
	{"SPGist",
	 {NULL, "ADD_LEAF", "MOVE_LEAFS", "ADD_NODE", "SPLIT_TUPLE", "PICKSPLIT",
	  "VACUUM_LEAF", "VACUUM_ROOT", "VACUUM_REDIRECT"}},
	{"BRIN",
	 {"CREATE_INDEX", "INSERT", "UPDATE", "SAMEPAGE_UPDATE", "REVMAP_EXTEND",
	  "DESUMMARIZE", NULL, NULL, NULL, "INSERT+INIT",
	  "UPDATE+INIT"}},
	{"CommitTs", {"ZEROPAGE", "TRUNCATE"}},
	{"ReplicationOrigin", {"SET", "DROP"}},
	{"Generic", {"Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic", "Generic"}},
	{"LogicalMessage", {"MESSAGE"}},
};

/* Names that a record type had before 17. */
static const char *
type_before_17(uint8 rmid, int type, const char *name)
{
	if (rmid == WA_RM_XLOG && type == 0xE)
		return NULL;
	if (rmid == RM_HEAP2)
	{
		switch (type)
		{
			case 1:
				return "PRUNE";
			case 2:
				return "VACUUM";
			case 3:
				return "FREEZE_PAGE";
		}
	}
	return name;
}

void
wa_rmgr_name(int major, uint8 rmid, char *name, size_t size)
{
	/* these have been the same in every supported major */
	(void) major;
	if (rmid < RMGRS)
		strlcpy(name, rmgr_names[rmid].name, size);
	else if (rmid >= FIRST_CUSTOM_RMGR)
		snprintf(name, size, "custom%03d", rmid);
	else
		snprintf(name, size, "UNKNOWN (%d)", rmid);
}

void
wa_record_type(int major, uint8 rmid, uint8 info, char *name, size_t size)
{
	int type = info >> 4;
	const char *known = NULL;

	if (rmid < RMGRS)
	{
		known = rmgr_names[rmid].type[type];
		if (major < 17)
			known = type_before_17(rmid, type, known);
	}
	if (known != NULL)
		strlcpy(name, known, size);
	else
		snprintf(name, size, "UNKNOWN (%x)", info & 0xF0);
}
