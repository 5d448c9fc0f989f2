/*-------------------------------------------------------------------------
 *
 * wal_judge.c
 *	  The judgement at the end of a transaction: which of the files that it
 *	  drops were dropped, truncated or rewritten.
 *
 * The facts are those of wal_effects.c and the end record's two lists: files
 * that go, newest decision first, and statistics that go, oldest first.  Every
 * file that goes was either replaced by a file that the transaction made
 * (TRUNCATE, REINDEX, ...), or belonged to a relation that was dropped, whose
 * statistics go as well.  The two kinds are told apart by numbers where a
 * relation still has its first file, whose number is the relation's OID, and
 * else by the order of events.  See docs/internals.md.
 *
 * Nothing is kept between calls; the scratch space is the caller's.
 *
 *-------------------------------------------------------------------------
 */
#include "wal_effects.h"

/* PgStat_Kind, the same in every major */
#define STATS_OF_DATABASE 1
#define STATS_OF_RELATION 2

typedef enum Why
{
	WHY_UNKNOWN,
	WHY_DROP,
	WHY_TRUNCATE,
	WHY_REWRITE,
	WHY_OWN /* made by this very transaction: nothing is lost */
} Why;

/* One judgement. */
typedef struct Trial
{
	WaEffects *effects;
	const WaWalRecord *record;
	const WaXact *xact;
	WaEffectsEmit emit;
	void *arg;
	uint32 items;         /* in effects->order */
	uint32 made;          /* in effects->made */
	uint32 locked;        /* in effects->locked */
	uint32 dropped;       /* in effects->dropped and dropped_why */
	uint32 gone;          /* in effects->gone, gone_oid and gone_why */
	uint32 index_deletes; /* rows deleted from pg_index */
	bool shared_deletes;
	bool rewrite;       /* a heap was rewritten by way of a transient one */
	bool heap_truncate; /* the tables that were truncated are named */
} Trial;

static int
compare_keys(const void *a, const void *b)
{
	const WaEffectKey *x = a;
	const WaEffectKey *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static int
compare_order(const void *a, const void *b)
{
	const WaEffectOrder *x = a;
	const WaEffectOrder *y = b;

	if (x->lsn != y->lsn)
		return x->lsn < y->lsn ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* The first element with 'key', NULL if there is none. */
static const WaEffectKey *
find_key(const WaEffectKey *keys, uint32 count, Oid key)
{
	uint32 low = 0;
	uint32 high = count;

	while (low < high)
	{
		uint32 middle = low + (high - low) / 2;

		if (keys[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && keys[low].key == key ? &keys[low] : NULL;
}

/* The file that the transaction made with this number, NULL if none. */
static WaEffectItem *
made_file(Trial *t, Oid number)
{
	const WaEffectKey *key = find_key(t->effects->made, t->made, number);

	return key ? &t->effects->item[key->at] : NULL;
}

/* When the relation was locked, 0 if it was not. */
static XLogRecPtr
lock_lsn(Trial *t, Oid relation)
{
	const WaEffectKey *key = find_key(t->effects->locked, t->locked, relation);
	const WaEffectKey *end = t->effects->locked + t->locked;
	XLogRecPtr first = 0;

	for (; key != NULL && key < end && key->key == relation; key++)
	{
		if (first == 0 || t->effects->item[key->at].lsn < first)
			first = t->effects->item[key->at].lsn;
	}
	return first;
}

/* Is this number the OID of a relation that the transaction made? */
static bool
is_new_relation(Trial *t, Oid number)
{
	return made_file(t, number) != NULL && lock_lsn(t, number) != 0;
}

static bool
is_dropped(Trial *t, Oid number)
{
	return find_key(t->effects->dropped, t->dropped, number) != NULL;
}

static bool
is_gone(Trial *t, Oid relation)
{
	return find_key(t->effects->gone, t->gone, relation) != NULL;
}

/*
 * The i-th file that goes, in the order in which the transaction decided so:
 * the record has the last one first.
 */
static WaRelFile
dropped_file(Trial *t, uint32 i)
{
	return wa_array_file(t->xact->dropped_file_array, t->xact->dropped_files - 1 - i);
}

/* Bring together the facts about the transaction and its subtransactions. */
static void
collect_facts(Trial *t)
{
	WaEffects *effects = t->effects;
	uint32 parts = 0;

	for (uint32 i = 0; effects->xacts > 0 && i <= t->xact->subxacts; i++)
	{
		TransactionId xid = i == 0 ? t->xact->xid : wa_array_xid(t->xact->subxact_array, i - 1);
		WaEffectXact *known = wa_effects_find(effects, xid);

		if (known == NULL)
			continue;
		parts++;
		t->index_deletes += known->index_deletes;
		t->shared_deletes |= known->shared_deletes;
		for (uint32 at = known->first; at != WA_NO_EFFECT; at = effects->item[at].next)
		{
			WaEffectItem *item = &effects->item[at];

			/* the same transaction can't be listed twice in a sane record */
			if (t->items == WA_EFFECT_ITEMS)
				return;
			effects->order[t->items].lsn = item->lsn;
			effects->order[t->items++].at = at;
			if (item->type == WA_EFFECT_CREATED)
			{
				effects->made[t->made].key = item->file.number;
				effects->made[t->made++].at = at;
			}
			else if (item->type == WA_EFFECT_LOCKED)
			{
				effects->locked[t->locked].key = item->file.number;
				effects->locked[t->locked++].at = at;
			}
			else if (item->type == WA_EFFECT_HEAP_TRUNCATED)
				t->heap_truncate = true;
		}
	}
	if (parts > 1)
		qsort(effects->order, t->items, sizeof(WaEffectOrder), compare_order);
	qsort(effects->made, t->made, sizeof(WaEffectKey), compare_keys);
	qsort(effects->locked, t->locked, sizeof(WaEffectKey), compare_keys);
}

/* The end record's lists. */
static void
collect_losses(Trial *t)
{
	WaEffects *effects = t->effects;

	t->dropped = Min(t->xact->dropped_files, WA_EFFECT_FILES);
	for (uint32 i = 0; i < t->dropped; i++)
	{
		effects->dropped[i].key = dropped_file(t, i).number;
		effects->dropped[i].at = i;
		effects->dropped_why[i] = WHY_UNKNOWN;
	}
	qsort(effects->dropped, t->dropped, sizeof(WaEffectKey), compare_keys);

	for (uint32 i = 0; i < t->xact->dropped_stats && t->gone < WA_EFFECT_FILES; i++)
	{
		WaStatsItem stats = wa_array_stats(t->record->major, t->xact->dropped_stats_array, i);

		if (stats.kind != STATS_OF_RELATION)
			continue;
		effects->gone_oid[t->gone] = (Oid) stats.object;
		effects->gone_why[t->gone] = WHY_DROP;
		effects->gone[t->gone].key = (Oid) stats.object;
		effects->gone[t->gone].at = t->gone;
		t->gone++;
	}
	qsort(effects->gone, t->gone, sizeof(WaEffectKey), compare_keys);
}

/*
 * A heap is rewritten by way of a transient one, which is made with a file of
 * its own number, gets the rows, gives this file to the table, and is dropped
 * with the table's old file.  So: its statistics go, its first file stays.
 *
 * If the table has a TOAST table that is not kept, this one is dropped with the
 * transient heap: just before it and after it was made, which is also when they
 * are locked first.
 */
static void
find_rewrites(Trial *t)
{
	WaEffects *effects = t->effects;

	for (uint32 i = 0; i < t->gone; i++)
	{
		Oid relation = effects->gone_oid[i];
		WaEffectItem *made = made_file(t, relation);

		if (made == NULL)
			continue;
		if (is_dropped(t, relation))
		{
			effects->gone_why[i] = WHY_OWN;
			continue;
		}
		effects->gone_why[i] = WHY_REWRITE;
		t->rewrite = true;
		for (uint32 j = i; j > 0 && i - j < 2 && effects->gone_why[j - 1] == WHY_DROP; j--)
		{
			if (lock_lsn(t, effects->gone_oid[j - 1]) <= made->lsn)
				break;
			effects->gone_why[j - 1] = WHY_REWRITE;
		}
	}
}

/*
 * ALTER TABLE makes indexes that it has to change anew: it drops the old one,
 * makes a new one, and builds that after the rewrite, into another file.
 */
static void
find_remade_indexes(Trial *t)
{
	WaEffects *effects = t->effects;
	uint32 remade = 0;
	XLogRecPtr first = 0;

	if (!t->rewrite)
		return;
	for (uint32 i = 0; i < t->made; i++)
	{
		WaEffectItem *made = &effects->item[effects->made[i].at];

		if (is_new_relation(t, made->file.number) && is_dropped(t, made->file.number) &&
			!is_gone(t, made->file.number))
		{
			remade++;
			if (first == 0 || made->lsn < first)
				first = made->lsn;
		}
	}
	for (uint32 i = t->gone; i > 0 && remade > 0; i--)
	{
		XLogRecPtr lsn = lock_lsn(t, effects->gone_oid[i - 1]);

		if (effects->gone_why[i - 1] == WHY_DROP && lsn != 0 && lsn < first)
		{
			effects->gone_why[i - 1] = WHY_REWRITE;
			remade--;
		}
	}
}

/*
 * The last transaction of REINDEX CONCURRENTLY drops the old indexes and
 * nothing else, and has not locked their table; as many new ones were made
 * before.  A single DROP INDEX CONCURRENTLY looks the same: it counts as a
 * rewrite if an index was made in this database shortly before.
 */
static void
find_concurrent_reindex(Trial *t)
{
	WaEffects *effects = t->effects;
	Oid database;
	uint32 credit = 0;

	if (t->gone == 0 || t->made > 0 || t->index_deletes < t->gone || t->dropped == 0)
		return;
	for (uint32 i = 0; i < t->locked; i++)
	{
		if (!is_gone(t, effects->locked[i].key))
			return;
	}
	database = dropped_file(t, 0).database;
	for (uint32 i = 0; i < effects->new_indexes; i++)
		credit += effects->new_index[i].database == database;
	if (t->gone == 1 && credit == 0)
		return;
	for (uint32 i = 0; i < t->gone; i++)
		effects->gone_why[i] = WHY_REWRITE;

	/* the oldest of them are used up */
	credit = Min(credit, t->gone);
	for (uint32 i = 0; i < effects->new_indexes && credit > 0;)
	{
		if (effects->new_index[i].database != database)
		{
			i++;
			continue;
		}
		effects->new_indexes--;
		credit--;
		memmove(&effects->new_index[i], &effects->new_index[i + 1],
				(effects->new_indexes - i) * sizeof(WaNewIndex));
	}
}

/* Is this item a file that replaces another one of the same relation? */
static bool
is_replacement(Trial *t, const WaEffectItem *item)
{
	return item->type == WA_EFFECT_CREATED && lock_lsn(t, item->file.number) == 0 &&
		   !is_gone(t, item->file.number);
}

/*
 * Go on from order[*at] to the next file that replaces another; NULL: no more.
 * '*why' gets what it was made for: a file without a block, or with rows, is a
 * truncated table's, and the indexes that follow are its own, as far as they
 * can have been built on no rows.
 */
static WaEffectItem *
next_replacement(Trial *t, uint32 *at, Why *why, bool *truncating)
{
	for (; *at < t->items; (*at)++)
	{
		WaEffectItem *item = &t->effects->item[t->effects->order[*at].at];

		if (!is_replacement(t, item))
		{
			/*
			 * TRUNCATE has locked its tables before it makes the first file,
			 * then it locks what belongs to them one by one: any other lock is
			 * another command's.
			 */
			if (item->type == WA_EFFECT_LOCKED &&
				(*at + 1 == t->items ||
				 !is_replacement(t, &t->effects->item[t->effects->order[*at + 1].at])))
				*truncating = false;
			continue;
		}
		(*at)++;
		switch ((WaFirstWrite) item->first)
		{
			case WA_FIRST_NONE:
			case WA_FIRST_HEAP:
				*truncating = true;
				*why = WHY_TRUNCATE;
				break;
			case WA_FIRST_EMPTY:
				*why = *truncating ? WHY_TRUNCATE : WHY_REWRITE;
				break;
			case WA_FIRST_BUILT:
				*truncating = false;
				*why = WHY_REWRITE;
				break;
		}
		return item;
	}
	return NULL;
}

/* Say of each file that goes why it goes. */
static void
judge_files(Trial *t)
{
	WaEffects *effects = t->effects;
	uint32 at = 0;
	uint32 gone_at = 0;
	uint32 replaced = 0;
	uint32 left;
	bool truncating = false;
	Why why = WHY_UNKNOWN;
	WaEffectItem *replacement;

	for (uint32 i = 0; i < t->items; i++)
		replaced += is_replacement(t, &effects->item[effects->order[i].at]);
	/* files of dropped relations: what is not replaced */
	left = t->dropped > replaced ? t->dropped - replaced : 0;

	replacement = next_replacement(t, &at, &why, &truncating);
	for (uint32 i = 0; i < t->dropped; i++)
	{
		WaRelFile file = dropped_file(t, i);
		const WaEffectKey *gone = find_key(effects->gone, t->gone, file.number);
		bool replaces;

		/* a relation's first file tells which relation it is */
		if (gone != NULL || replacement == NULL || left == 0)
			replaces = (gone == NULL && replacement != NULL);
		else if (gone_at >= t->gone || t->dropped - i <= replaced)
			replaces = true;
		/* a relation that stays may get a new file by way of a transient heap */
		else if (lock_lsn(t, file.number) != 0 && effects->gone_why[gone_at] != WHY_REWRITE)
			replaces = true;
		else
			replaces = replacement->file.database == file.database &&
					   replacement->lsn < lock_lsn(t, effects->gone_oid[gone_at]);

		if (replaces)
		{
			effects->dropped_why[i] = why;
			/* another tablespace: it was moved, as it was */
			if (replacement->file.tablespace != file.tablespace)
				effects->dropped_why[i] = WHY_REWRITE;
			replaced--;
			replacement = next_replacement(t, &at, &why, &truncating);
		}
		else if (gone != NULL || gone_at < t->gone)
		{
			/* what has no file (views, ...) or none that is logged (temporary tables) */
			while (gone == NULL && t->gone - gone_at > left &&
				   effects->gone_why[gone_at] == WHY_DROP && gone_at + 1 < t->gone)
				gone_at++;
			if (gone != NULL)
				gone_at = gone->at;
			effects->dropped_why[i] = effects->gone_why[gone_at++];
			left = left > 0 ? left - 1 : 0;
		}
		else if (t->rewrite)
			effects->dropped_why[i] = WHY_REWRITE;
		else
		{
			/* no relation was dropped, and what replaced the file is not known */
			effects->dropped_why[i] = t->gone > 0 ? WHY_DROP : WHY_TRUNCATE;
		}
		if (made_file(t, file.number) != NULL)
			effects->dropped_why[i] = WHY_OWN;
	}
}

/*
 * The tables that were truncated are named, and no file looks like theirs: some
 * other access method writes its first blocks in a way that is not known here.
 */
static void
trust_heap_truncate(Trial *t)
{
	WaEffects *effects = t->effects;

	if (!t->heap_truncate || t->rewrite)
		return;
	for (uint32 i = 0; i < t->items; i++)
	{
		if (effects->item[effects->order[i].at].type == WA_EFFECT_TRUNCATED)
			return;
	}
	for (uint32 i = 0; i < t->dropped; i++)
	{
		if (effects->dropped_why[i] == WHY_TRUNCATE)
			return;
	}
	for (uint32 i = 0; i < t->dropped; i++)
	{
		if (effects->dropped_why[i] == WHY_REWRITE)
			effects->dropped_why[i] = WHY_TRUNCATE;
	}
}

/* Add a relation to the list, once. */
static void
add_relation(Trial *t, WaMsgDestruction *d, Oid relation)
{
	/* most often it was the last one */
	if (d->relations == WA_EFFECT_FILES ||
		(d->relations > 0 && t->effects->relations[d->relations - 1] == relation))
		return;
	t->effects->relations[d->relations++] = relation;
}

static void
start_destruction(Trial *t, WaMsgDestruction *d, WaDestructionKind kind)
{
	memset(d, 0, sizeof(*d));
	d->kind = kind;
	d->tli = t->record->tli;
	d->start_lsn = d->first_lsn = t->record->start_lsn;
	d->end_lsn = t->record->end_lsn;
	d->restore_before_lsn = t->record->prev_lsn;
	d->xid = t->xact->xid;
	d->time = t->xact->time;
	d->database = t->xact->database;
	/* recovery stops before the first end of a transaction later than its target */
	d->has_time = !t->effects->has_max_time || t->effects->max_time < t->xact->time;
	if (d->has_time)
		d->restore_before_time = t->xact->time - 1;
}

/* The first irreversible record came before the end record. */
static void
set_first(WaMsgDestruction *d, const WaEffectItem *item)
{
	d->first_lsn = item->lsn;
	d->restore_before_lsn = item->other;
	d->has_time = false;
	d->restore_before_time = 0;
}

/* Files of one kind, and the relations of which it is certain that they are theirs. */
static void
collect_kind(Trial *t, WaMsgDestruction *d, Why why)
{
	WaEffects *effects = t->effects;

	for (uint32 i = 0; i < t->dropped; i++)
	{
		WaRelFile file = dropped_file(t, i);

		if (effects->dropped_why[i] != why)
			continue;
		effects->files[d->files++] = file;
		if (d->database == 0)
			d->database = file.database;
	}
	if (why == WHY_DROP)
	{
		for (uint32 i = 0; i < t->gone; i++)
		{
			if (effects->gone_why[i] == WHY_DROP)
				add_relation(t, d, effects->gone_oid[i]);
		}
		return;
	}
	if (why == WHY_TRUNCATE && t->heap_truncate)
	{
		for (uint32 i = 0; i < t->items; i++)
		{
			WaEffectItem *item = &effects->item[effects->order[i].at];

			if (item->type == WA_EFFECT_HEAP_TRUNCATED)
				add_relation(t, d, item->file.number);
		}
		return;
	}
	for (uint32 i = 0; i < d->files; i++)
	{
		if (lock_lsn(t, effects->files[i].number) != 0 && !is_gone(t, effects->files[i].number))
			add_relation(t, d, effects->files[i].number);
	}
}

/*
 * A table that was made, truncated or rewritten in the same transaction is
 * truncated in place, at once: what was written into it is gone before the
 * commit.  Not so the relations that a VACUUM shortens.
 */
static void
collect_truncations_in_place(Trial *t, WaMsgDestruction *d)
{
	WaEffects *effects = t->effects;
	bool commit_first = d->files > 0;

	for (uint32 i = 0; i < t->items && d->files < WA_EFFECT_FILES; i++)
	{
		WaEffectItem *item = &effects->item[effects->order[i].at];
		WaEffectItem *made;

		if (item->type != WA_EFFECT_TRUNCATED)
			continue;
		made = made_file(t, item->file.number);
		if (made == NULL || is_dropped(t, item->file.number))
			continue;

		/*
		 * An index has a block from its start, so only rows count; what a
		 * subtransaction has written is not always known.
		 */
		if (made->first == WA_FIRST_NONE ? t->xact->subxacts == 0 : (made->first == WA_FIRST_EMPTY || made->other > item->lsn))
			continue;
		if (!commit_first && d->files == 0)
			set_first(d, item);
		if (d->files > 0 && memcmp(&effects->files[d->files - 1], &item->file, sizeof(WaRelFile)) == 0)
			continue;
		effects->files[d->files++] = item->file;
		if (d->database == 0)
			d->database = item->file.database;
		if (is_new_relation(t, item->file.number) && !is_gone(t, item->file.number) && !t->heap_truncate)
			add_relation(t, d, item->file.number);
	}
}

/* The database is marked as invalid before its files go. */
static void
set_first_of_database(Trial *t, WaMsgDestruction *d, const WaEffectItem *item)
{
	for (uint32 i = t->items; i > 0; i--)
	{
		WaEffectItem *mark = &t->effects->item[t->effects->order[i - 1].at];

		if (mark->type == WA_EFFECT_DATABASE_MARKED && mark->lsn < item->lsn)
		{
			item = mark;
			break;
		}
	}
	set_first(d, item);
}

/* Databases: the files go before the end of the transaction, whatever that is. */
static void
judge_databases(Trial *t, bool committed)
{
	WaEffects *effects = t->effects;

	for (uint32 i = 0; committed && i < t->xact->dropped_stats; i++)
	{
		WaStatsItem stats = wa_array_stats(t->record->major, t->xact->dropped_stats_array, i);
		WaMsgDestruction d;

		if (stats.kind != STATS_OF_DATABASE)
			continue;
		start_destruction(t, &d, WA_DESTRUCTION_DATABASE);
		d.database = stats.database;
		for (uint32 j = t->items; j > 0; j--)
		{
			WaEffectItem *item = &effects->item[effects->order[j - 1].at];

			if (item->type == WA_EFFECT_DATABASE_GONE && item->file.database == stats.database)
				set_first_of_database(t, &d, item);
		}
		t->emit(t->arg, &d, NULL, NULL);
	}
	for (uint32 i = 0; !committed && t->shared_deletes && i < t->items; i++)
	{
		WaEffectItem *item = &effects->item[effects->order[i].at];
		WaMsgDestruction d;
		bool made = false;

		if (item->type != WA_EFFECT_DATABASE_GONE)
			continue;
		for (uint32 j = 0; j < i; j++)
		{
			WaEffectItem *before = &effects->item[effects->order[j].at];

			/* made or gone before: clean-up, or said already */
			made |= (before->type == WA_EFFECT_DATABASE_MADE ||
					 before->type == WA_EFFECT_DATABASE_GONE) &&
					before->file.database == item->file.database;
		}
		if (made)
			continue;
		start_destruction(t, &d, WA_DESTRUCTION_DATABASE);
		set_first_of_database(t, &d, item);
		d.aborted = true;
		d.database = item->file.database;
		t->emit(t->arg, &d, NULL, NULL);
	}
}

void
wa_judge_transaction(WaEffects *effects, const WaWalRecord *record, const WaWalEvent *event,
					 WaEffectsEmit emit, void *arg)
{
	static const struct
	{
		Why why;
		WaDestructionKind kind;
	} kinds[] = {{WHY_DROP, WA_DESTRUCTION_DROP},
				 {WHY_TRUNCATE, WA_DESTRUCTION_TRUNCATE},
				 {WHY_REWRITE, WA_DESTRUCTION_REWRITE}};
	Trial t = {0};
	bool committed = event->kind == WA_EVENT_COMMIT || event->kind == WA_EVENT_COMMIT_PREPARED;

	t.effects = effects;
	t.record = record;
	t.xact = &event->u.xact;
	t.emit = emit;
	t.arg = arg;

	/* nearly all transactions end here */
	if (effects->xacts == 0 && t.xact->dropped_files == 0 && t.xact->dropped_stats == 0)
		return;
	collect_facts(&t);
	judge_databases(&t, committed);
	if (!committed || (t.xact->dropped_files == 0 && t.items == 0))
		return;

	collect_losses(&t);
	find_rewrites(&t);
	find_remade_indexes(&t);
	find_concurrent_reindex(&t);
	judge_files(&t);
	trust_heap_truncate(&t);
	for (int i = 0; i < lengthof(kinds); i++)
	{
		WaMsgDestruction d;

		start_destruction(&t, &d, kinds[i].kind);
		collect_kind(&t, &d, kinds[i].why);
		if (kinds[i].why == WHY_TRUNCATE)
			collect_truncations_in_place(&t, &d);
		if (d.files > 0)
			emit(arg, &d, effects->files, effects->relations);
	}
}
