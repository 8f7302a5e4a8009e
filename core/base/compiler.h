/* SPDX-License-Identifier: MIT
 *
 * compiler.h - turns libc calls that have no place in the core into compile errors.
 *
 * Include it last, after every system header and every header of ours, in a block of its own:
 * naming a poisoned identifier afterwards, even as a struct member, does not compile.
 * A wrapper of the heap (alloc.c) defines PERI_WANT_LIBC_HEAP first. */
#ifndef PERI_BASE_COMPILER_H
#define PERI_BASE_COMPILER_H

/* Some of these are macros in some libcs; poisoning a live macro would warn. */
#undef strcpy
#undef strncpy
#undef strcat
#undef strncat
#undef strtok
#undef alloca
#undef strdup
#undef strndup

/* Unbounded or silently cutting copies: snprintf, memcpy, peri_text or peri_str instead. */
#pragma GCC poison strcpy strncpy strcat strncat stpcpy sprintf vsprintf gets
/* Hidden state, or errors that cannot be seen: strtol and friends, the *_r forms. */
#pragma GCC poison strtok atoi atol atoll atof asctime ctime gmtime localtime rand srand
/* Unbounded stack; races on temporary names; a shell. */
#pragma GCC poison alloca tmpnam tempnam mktemp system popen
/* Heap past the process-wide table of alloc.h.  (`free` is a member name there, so it stays.) */
#ifndef PERI_WANT_LIBC_HEAP
#pragma GCC poison malloc calloc realloc reallocarray strdup strndup asprintf vasprintf
#endif

#endif
