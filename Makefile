EXTENSION = walarchive
MODULE_big = walarchive
# not VERSION: that is PostgreSQL's, once PGXS is included
EXTVERSION = 0.1.0

OBJS = walarchive.o \
	$(patsubst %.c,%.o,$(wildcard src/base/*.c src/state/*.c src/capture/*.c src/catalog/*.c src/backup/*.c src/restore/*.c))

# the SQL surface, in the order in which its parts depend on one another
SCHEMA = schema/header.sql \
	schema/source.sql \
	schema/catalog.sql \
	schema/prepared.sql \
	schema/tablespaces.sql \
	schema/state.sql \
	schema/mirror.sql \
	schema/relations.sql \
	schema/index.sql \
	schema/decode.sql \
	schema/read_grant.sql \
	schema/backup.sql \
	schema/window.sql \
	schema/backup_catalog.sql \
	schema/backup_control.sql \
	schema/backup_take.sql \
	schema/expire.sql \
	schema/removal.sql \
	schema/plan.sql \
	schema/control.sql \
	schema/backup_schedule.sql \
	schema/verify.sql \
	schema/backup_verify.sql \
	schema/serve.sql \
	schema/views.sql

DATA_built = walarchive--$(EXTVERSION).sql
EXTRA_CLEAN = walarchive--$(EXTVERSION).sql $(DECODE) $(FRONT) $(CLIENT) $(UNIT_TESTS) tmp_check

# the program that reads WAL for the server, and for people
DECODE = src/decode/walarchive-decode

# the client: what a recovery starts for each file, and all the rest of it
FRONT = cli/walarchive
CLIENT = cli/walarchive-client
FRONT_SOURCES = cli/front.c cli/fetch_link.c
CLIENT_DECODE = src/decode/wal_files.c src/decode/walk.c

PG_CPPFLAGS = -I$(libpq_srcdir) -DWALARCHIVE_VERSION='"$(EXTVERSION)"'
# what backups are compressed with; PostgreSQL itself may have been built without
SHLIB_LINK = $(libpq) -lpthread -lzstd -llz4 -lz

# pg_regress does not make the parents of its instance's folder, and the
# archive directory in its configuration has to be absolute
REGRESS_PREP = regress-folder
REGRESS = source views privileges errors index decode backup expire plan
REGRESS_OPTS = --temp-instance=tmp_check/regress --temp-config=tmp_check/regress.conf
TAP_TESTS = 1

# fuzz targets, with their corpora replayed as unit tests; see test/fuzz/README
FUZZ = history flat_json wal_name message wal tar manifest control
UNIT_TESTS = test/unit_base test/unit_wal test/unit_wal_made test/unit_wal_event test/unit_wal_effects test/unit_backup \
	test/unit_backup_schedule test/unit_restore_plan test/unit_client $(FUZZ:%=test/fuzz/replay_%)

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# what the TAP tests share
PG_PROVE_FLAGS += -I $(srcdir)/t/lib

walarchive--$(EXTVERSION).sql: $(SCHEMA)
	cat $^ > $@

# every object sees every header: the tree is small, and a stale object is not
$(OBJS): $(wildcard src/*.h src/*/*.h)

# A program beside a module is more than PGXS has rules for.  It is compiled in
# one go: its objects would not be those of the module.
$(DECODE): $(wildcard src/decode/*.[ch] src/base/*.[ch])
	$(CC) $(CFLAGS) $(CPPFLAGS) -DFRONTEND -o $@ $(filter %.c,$^) $(LDFLAGS) -L$(libdir) -L$(pkglibdir) -lpgcommon -lpgport $(filter -lcrypto,$(LIBS))

# the client has the pure code and, for a bare archive directory, the decoder's reading of WAL
$(CLIENT): $(filter-out cli/front.c,$(wildcard cli/*.c)) $(wildcard cli/*.h) $(wildcard src/base/*.[ch]) $(CLIENT_DECODE) $(wildcard src/decode/*.h)
	$(CC) $(CFLAGS) $(CPPFLAGS) -DFRONTEND -pthread -o $@ $(filter %.c,$^) $(LDFLAGS) -L$(libdir) -L$(pkglibdir) \
		-lpgfeutils $(libpq) -lpgcommon -lpgport -larchive $(filter -lcrypto,$(LIBS))

# linked with nothing, so that it starts at once
$(FRONT): $(FRONT_SOURCES) cli/fetch_link.h
	$(CC) $(CFLAGS) $(CPPFLAGS) -o $@ $(filter %.c,$^)

all: $(DECODE) $(FRONT) $(CLIENT)
install: install-programs
uninstall: uninstall-programs

.PHONY: install-programs uninstall-programs
install-programs: $(DECODE) $(FRONT) $(CLIENT)
	$(MKDIR_P) '$(DESTDIR)$(bindir)'
	$(INSTALL_PROGRAM) $(DECODE) '$(DESTDIR)$(bindir)/walarchive-decode'
	$(INSTALL_PROGRAM) $(FRONT) '$(DESTDIR)$(bindir)/walarchive'
	$(INSTALL_PROGRAM) $(CLIENT) '$(DESTDIR)$(bindir)/walarchive-client'
	$(MKDIR_P) '$(DESTDIR)$(mandir)/man1'
	$(INSTALL_DATA) docs/walarchive.1 '$(DESTDIR)$(mandir)/man1/walarchive.1'
uninstall-programs:
	rm -f '$(DESTDIR)$(bindir)/walarchive-decode' '$(DESTDIR)$(bindir)/walarchive' '$(DESTDIR)$(bindir)/walarchive-client' \
		'$(DESTDIR)$(mandir)/man1/walarchive.1'

test/unit_%: test/unit_%.c $(wildcard test/*.h src/base/*.[ch])
	$(CC) $(CFLAGS) $(CPPFLAGS) -DFRONTEND -o $@ $< $(wildcard src/base/*.c) -L$(libdir) -L$(pkglibdir) -lpgcommon -lpgport -lpq

# parts of the client that need no server
UNIT_CLIENT = cli/unpack.c cli/manifest_index.c cli/conf_file.c cli/restore_settings.c
test/unit_client: test/unit_client.c test/unit.h $(UNIT_CLIENT) $(wildcard cli/*.h src/base/*.[ch])
	$(CC) $(CFLAGS) $(CPPFLAGS) -DFRONTEND -pthread -o $@ $< $(UNIT_CLIENT) $(wildcard src/base/*.c) $(LDFLAGS) -L$(libdir) -L$(pkglibdir) \
		-lpgcommon -lpgport -larchive $(filter -lcrypto,$(LIBS))

# the protocol's messages are the one target outside of src/base; that for WAL looks at no checksums
test/fuzz/replay_%: test/fuzz/fuzz_%.c test/fuzz/replay.c $(wildcard src/base/*.[ch] src/capture/protocol.[ch])
	$(CC) $(CFLAGS) $(CPPFLAGS) $(if $(findstring message,$*),,-DFRONTEND) -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -o $@ $< test/fuzz/replay.c \
		$(if $(findstring message,$*),src/capture/protocol.c,$(wildcard src/base/*.c)) \
		-L$(libdir) -L$(pkglibdir) -lpgcommon -lpgport

.PHONY: unitcheck unit-programs
unit-programs: $(UNIT_TESTS)
unitcheck: $(UNIT_TESTS)
	$(foreach f,$(FUZZ),./test/fuzz/replay_$(f) test/fuzz/corpus/$(f)/* &&) ./test/unit_base && \
		./test/unit_wal test/wal && ./test/unit_wal_made && ./test/unit_wal_event test/wal && ./test/unit_wal_effects && \
		./test/unit_backup_schedule && ./test/unit_restore_plan && \
		rm -rf test/unit_client.tmp && ./test/unit_client test/unit_client.tmp && ./test/unit_backup test/control

.PHONY: regress-folder
regress-folder:
	rm -rf tmp_check/regress tmp_check/archive
	mkdir -p tmp_check/archive
	sed 's|@archive@|$(CURDIR)/tmp_check/archive|' test/regress.conf > tmp_check/regress.conf
