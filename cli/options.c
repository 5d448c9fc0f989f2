/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Options of the command line: those that all commands have, and how
 *	  numbers, sizes, LSNs and times are read.
 *
 *-------------------------------------------------------------------------
 */
#include "options.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <time.h>

#include "common/logging.h"
#include "datatype/timestamp.h"

/* Values of the long options that all commands have. */
enum
{
	OPT_SOURCE = 500,
	OPT_ARCHIVE,
	OPT_JSON,
	OPT_VERBOSE,
	OPT_RETRY,
	OPT_TIMEOUT,
	OPT_HELP,
	OPT_VERSION
};

#define COMMON_SHORT "h:p:U:d:wWv?V"

static const struct option common_long[] = {
	{"host", required_argument, NULL, 'h'},
	{"port", required_argument, NULL, 'p'},
	{"username", required_argument, NULL, 'U'},
	{"dbname", required_argument, NULL, 'd'},
	{"no-password", no_argument, NULL, 'w'},
	{"password", no_argument, NULL, 'W'},
	{"source", required_argument, NULL, OPT_SOURCE},
	{"archive", required_argument, NULL, OPT_ARCHIVE},
	{"json", no_argument, NULL, OPT_JSON},
	{"verbose", no_argument, NULL, 'v'},
	{"retry", required_argument, NULL, OPT_RETRY},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
};

#define MAX_LONG 64

static const char *command_name = NULL;

char *
cli_clean_text(char *text)
{
	for (unsigned char *p = (unsigned char *) text; *p; p++)
	{
		if ((*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7F)
			*p = ' ';
		/* the same in UTF-8 */
		else if (*p == 0xC2 && p[1] >= 0x80 && p[1] <= 0x9F)
			*p = p[1] = ' ';
	}
	return text;
}

void
cli_default_options(CliOptions *options)
{
	memset(options, 0, sizeof(*options));
	options->retry_seconds = 60;
}

static const CliCommand *
find_command(const char *name)
{
	for (const CliCommand *command = cli_commands; command->name != NULL; command++)
	{
		if (strcmp(command->name, name) == 0)
			return command;
	}
	return NULL;
}

static void
print_help(const char *name)
{
	const CliCommand *command = find_command(name);

	if (command == NULL)
		return;
	printf("%s\n\nUsage:\n  walarchive %s %s\n\n%s", command->summary, name, command->usage, command->help);
	printf("\nThe archive:\n"
		   "      --source=NAME         name of the archived source\n"
		   "  -d, --dbname=CONNSTR      database of the archive host, or a connection string\n"
		   "  -h, --host=HOST           archive host, or the directory of its socket\n"
		   "%s"
		   "  -U, --username=NAME       role to connect as\n"
		   "  -w, --no-password         never ask for a password\n"
		   "  -W, --password            ask for one at once\n"
		   "      --archive=DIR         read a bare archive directory instead\n"
		   "      --retry=SECONDS       how long a lost connection is tried again\n"
		   "      --timeout=SECONDS     how long the archive host may say nothing\n"
		   "\nGeneral:\n"
		   "      --json                results for programs\n"
		   "  -v, --verbose             say more\n"
		   "  -V, --version             print the version\n"
		   "  -?, --help                print this\n",
		   /* the long form is the copy's there */
		   strcmp(name, "restore") == 0 ? "  -p PORT                   its port\n" : "  -p, --port=PORT           its port\n");
	/* monitoring wants others, which its own help tells */
	if (strcmp(name, "check") == 0)
		return;
	printf("\nExit codes: 0 done; 1 no (not feasible, a check failed, a file that does not exist); 2 bad usage;\n"
		   "3 the archive can't be reached; 4 it lacks what is needed, or that is damaged; 5 trouble on this machine.\n");
}

int
cli_getopt(int argc, char **argv, const char *own_short, const struct option *own_long,
		   CliOptions *common)
{
	struct option all[MAX_LONG];
	char all_short[128];
	int n = 0;
	int c;

	command_name = argv[0];
	for (int i = 0; own_long != NULL && own_long[i].name != NULL; i++)
	{
		Assert(n < MAX_LONG - (int) lengthof(common_long) - 1);
		all[n++] = own_long[i];
	}
	memcpy(all + n, common_long, sizeof(common_long));
	memset(&all[n + lengthof(common_long)], 0, sizeof(struct option));
	snprintf(all_short, sizeof(all_short), "%s%s", own_short, COMMON_SHORT);

	while ((c = getopt_long(argc, argv, all_short, all, NULL)) != -1)
	{
		switch (c)
		{
			case 'h':
				common->host = pg_strdup(optarg);
				break;
			case 'p':
				common->port = pg_strdup(optarg);
				break;
			case 'U':
				common->user = pg_strdup(optarg);
				break;
			case 'd':
				common->dbname = pg_strdup(optarg);
				break;
			case 'w':
				common->no_password = true;
				common->ask_password = false;
				break;
			case 'W':
				common->ask_password = true;
				common->no_password = false;
				break;
			case 'v':
				common->verbose = true;
				pg_logging_increase_verbosity();
				break;
			case OPT_SOURCE:
				common->source = pg_strdup(optarg);
				break;
			case OPT_ARCHIVE:
				common->archive_dir = pg_strdup(optarg);
				break;
			case OPT_JSON:
				common->json = true;
				break;
			case OPT_RETRY:
				if (!cli_parse_int("--retry", optarg, 0, 7 * 24 * 3600, &common->retry_seconds))
					exit(EXIT_USAGE);
				break;
			case OPT_TIMEOUT:
				if (!cli_parse_int("--timeout", optarg, 1, 7 * 24 * 3600, &common->timeout_seconds))
					exit(EXIT_USAGE);
				break;
			case OPT_HELP:
				print_help(argv[0]);
				exit(EXIT_DONE);
			case OPT_VERSION:
			case 'V':
				puts("walarchive " WALARCHIVE_VERSION);
				exit(EXIT_DONE);
			case '?':
				/* "-?" is a question, anything else was reported by getopt_long */
				if (optind > 1 && optind <= argc && strcmp(argv[optind - 1], "-?") == 0)
				{
					print_help(argv[0]);
					exit(EXIT_DONE);
				}
				pg_log_error_hint("Try \"walarchive %s --help\" for more information.", argv[0]);
				exit(EXIT_USAGE);
			default:
				return c;
		}
	}
	return -1;
}

int
cli_usage_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	pg_log_generic_v(PG_LOG_ERROR, PG_LOG_PRIMARY, format, args);
	va_end(args);
	if (command_name != NULL)
		pg_log_error_hint("Try \"walarchive %s --help\" for more information.", command_name);
	else
		pg_log_error_hint("Try \"walarchive --help\" for more information.");
	return EXIT_USAGE;
}

bool
cli_parse_int(const char *option, const char *text, int min, int max, int *value)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0 || number < min || number > max)
	{
		pg_log_error("option %s takes a number from %d to %d, not \"%s\"", option, min, max, text);
		return false;
	}
	*value = (int) number;
	return true;
}

bool
cli_parse_uint32(const char *option, const char *text, uint32 min, uint32 *value)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (!isdigit((unsigned char) text[0]) || *end != '\0' || errno != 0 || number < min || number > PG_UINT32_MAX)
	{
		pg_log_error("option %s takes a number from %u to %u, not \"%s\"", option, min, PG_UINT32_MAX, text);
		return false;
	}
	*value = (uint32) number;
	return true;
}

bool
cli_parse_size(const char *option, const char *text, uint64 *value)
{
	static const struct
	{
		const char *name;
		int shift;
	} units[] = {{"", 0}, {"B", 0}, {"kB", 10}, {"MB", 20}, {"GB", 30}, {"TB", 40}};
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (isdigit((unsigned char) text[0]) && errno == 0)
	{
		for (size_t i = 0; i < lengthof(units); i++)
		{
			if (strcmp(end, units[i].name) == 0 && number <= PG_UINT64_MAX >> units[i].shift)
			{
				*value = (uint64) number << units[i].shift;
				return true;
			}
		}
	}
	pg_log_error("option %s takes a number of bytes, or one followed by kB, MB, GB or TB, not \"%s\"", option, text);
	return false;
}

bool
cli_parse_lsn(const char *option, const char *text, XLogRecPtr *value)
{
	uint32 high;
	uint32 low;
	int used = 0;

	if (strspn(text, "0123456789abcdefABCDEF/") == strlen(text) &&
		strlen(text) <= 17 && sscanf(text, "%8X/%8X%n", &high, &low, &used) == 2 && text[used] == '\0')
	{
		*value = (uint64) high << 32 | low;
		return true;
	}
	pg_log_error("option %s takes an LSN such as 0/3000028, not \"%s\"", option, text);
	return false;
}

/* ---- times ---- */

/* Exactly 'digits' digits. */
static bool
take_number(const char **p, int digits, int *value)
{
	*value = 0;
	for (int i = 0; i < digits; i++)
	{
		if (!isdigit((unsigned char) (*p)[i]))
			return false;
		*value = *value * 10 + (*p)[i] - '0';
	}
	*p += digits;
	return true;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar. */
static int64
days_of(int year, int month, int day)
{
	int y = month > 2 ? year : year - 1;
	int m = month > 2 ? month - 3 : month + 9;

	return (int64) 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static bool
parse_time(const char *text, int64 *value)
{
	static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	const char *p = text;
	int year;
	int month;
	int day;
	int hour = 0;
	int minute = 0;
	int second = 0;
	int micros = 0;
	int64 seconds;

	if (!take_number(&p, 4, &year) || *p++ != '-' || !take_number(&p, 2, &month) || *p++ != '-' ||
		!take_number(&p, 2, &day) || month < 1 || month > 12 || day < 1 || year < 1970)
		return false;
	if (day > month_days[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)))
		return false;
	if ((*p == ' ' || *p == 'T') && isdigit((unsigned char) p[1]))
	{
		p++;
		if (!take_number(&p, 2, &hour) || *p++ != ':' || !take_number(&p, 2, &minute))
			return false;
		if (*p == ':')
		{
			p++;
			if (!take_number(&p, 2, &second))
				return false;
			if (*p == '.')
			{
				int unit = 100000;

				p++;
				if (!isdigit((unsigned char) *p))
					return false;
				for (; isdigit((unsigned char) *p); p++, unit /= 10)
					micros += (*p - '0') * unit;
			}
		}
	}
	if (hour > 24 || minute > 59 || second > 59 || (hour == 24 && (minute | second | micros) != 0))
		return false;
	while (*p == ' ')
		p++;

	seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	if (strcmp(p, "Z") == 0 || strcmp(p, "UTC") == 0 || strcmp(p, "GMT") == 0)
		;
	else if (*p == '+' || *p == '-')
	{
		int sign = *p++ == '-' ? -1 : 1;
		int offset_hour;
		int offset_minute = 0;
		int offset_second = 0;

		if (!take_number(&p, 2, &offset_hour))
			return false;
		if (*p == ':')
			p++;
		if (*p != '\0' && !take_number(&p, 2, &offset_minute))
			return false;
		if (*p == ':')
		{
			p++;
			if (!take_number(&p, 2, &offset_second))
				return false;
		}
		if (*p != '\0' || offset_hour > 15 || offset_minute > 59 || offset_second > 59)
			return false;
		seconds -= sign * (offset_hour * 3600 + offset_minute * 60 + offset_second);
	}
	else if (*p == '\0')
	{
		struct tm tm;
		time_t local;

		memset(&tm, 0, sizeof(tm));
		tm.tm_year = year - 1900;
		tm.tm_mon = month - 1;
		tm.tm_mday = day;
		tm.tm_hour = hour;
		tm.tm_min = minute;
		tm.tm_sec = second;
		tm.tm_isdst = -1;
		local = mktime(&tm);
		if (local == (time_t) -1)
			return false;
		seconds = local;
	}
	else
		return false;
	*value = (seconds - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC + micros;
	return true;
}

bool
cli_parse_time(const char *option, const char *text, int64 *value)
{
	if (parse_time(text, value))
		return true;
	pg_log_error("option %s takes a time such as \"2026-11-21 18:00:00.25+01\", not \"%s\"", option, text);
	pg_log_error_hint("Without an offset it is in the local time zone; Z stands for UTC.");
	return false;
}

const char *
cli_time_text(int64 time, char *buffer)
{
	int64 seconds = time / USECS_PER_SEC;
	int micros = (int) (time % USECS_PER_SEC);
	time_t unix_time;
	struct tm tm;
	char day[32];
	char zone[16];
	long offset;

	if (micros < 0)
	{
		seconds--;
		micros += USECS_PER_SEC;
	}
	unix_time = (time_t) (seconds + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY);
	if (localtime_r(&unix_time, &tm) == NULL)
	{
		snprintf(buffer, CLI_TIME_LEN, "%lld", (long long) time);
		return buffer;
	}
	strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &tm);
	offset = tm.tm_gmtoff;
	snprintf(zone, sizeof(zone), "%c%02ld", offset < 0 ? '-' : '+', labs(offset) / 3600);
	if (offset % 3600 != 0)
		snprintf(zone + strlen(zone), sizeof(zone) - strlen(zone), ":%02ld", labs(offset) % 3600 / 60);
	if (micros != 0)
		snprintf(buffer, CLI_TIME_LEN, "%s.%06d%s", day, micros, zone);
	else
		snprintf(buffer, CLI_TIME_LEN, "%s%s", day, zone);
	return buffer;
}
