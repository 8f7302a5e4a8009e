/* SPDX-License-Identifier: MIT
 *
 * test_note.c - reading the ELF note of sound, foreign, truncated and hostile files. */
#define _GNU_SOURCE
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "fault.h"
#include "harness.h"
#include "plugin/plugin_int.h"

enum { IMAGE_BYTES = 4096, NOTE_AT = 512 };

static char path[128];
static unsigned char image[IMAGE_BYTES];

#if defined(__x86_64__)
enum { OUR_MACHINE = EM_X86_64, OTHER_MACHINE = EM_AARCH64 };
#else
enum { OUR_MACHINE = EM_AARCH64, OTHER_MACHINE = EM_X86_64 };
#endif

static Elf64_Ehdr *header(void) {
    return (Elf64_Ehdr *)(void *)image;
}

static Elf64_Phdr *program_header(void) {
    return (Elf64_Phdr *)(void *)(image + sizeof(Elf64_Ehdr));
}

/* A shared object that consists of one note with this text. */
static void build(const char *text) {
    memset(image, 0, sizeof image);
    Elf64_Ehdr *h = header();
    memcpy(h->e_ident, ELFMAG, SELFMAG);
    h->e_ident[EI_CLASS] = ELFCLASS64;
    h->e_ident[EI_DATA] = ELFDATA2LSB;
    h->e_ident[EI_VERSION] = EV_CURRENT;
    h->e_type = ET_DYN;
    h->e_machine = OUR_MACHINE;
    h->e_phoff = sizeof *h;
    h->e_phentsize = sizeof(Elf64_Phdr);
    h->e_phnum = 1;
    Elf64_Phdr *p = program_header();
    p->p_type = PT_NOTE;
    p->p_offset = NOTE_AT;
    p->p_align = 4;
    uint32_t head[3] = {8, (uint32_t)strlen(text) + 1, PERI_NOTE_TYPE};
    memcpy(image + NOTE_AT, head, sizeof head);
    memcpy(image + NOTE_AT + 12, "Perigee", 8);
    memcpy(image + NOTE_AT + 20, text, strlen(text) + 1);
    p->p_filesz = 20 + ((head[1] + 3) & ~3u);
}

static peri_status read_image(size_t bytes, peri_note *n, peri_error *err) {
    unlink(path); /* a new file each time: replacing one in place is slow on some file systems */
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(image, 1, bytes, f) != bytes || fclose(f) != 0)
        fail_msg("cannot write");
    *err = (peri_error){0};
    return peri_note_read(path, n, err);
}

static void assert_refused(peri_status code, const char *fragment) {
    peri_note n;
    peri_error err;
    assert_int_equal(read_image(sizeof image, &n, &err), code);
    assert_error(&err, code, fragment);
}

static int make_path(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/perigee-note-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

static void note_of_a_sound_plugin_is_read(void **state) {
    (void)state;
    peri_note n;
    peri_error err;
    assert_ok(peri_note_read(PERI_PLUGIN_DIR "/null.so", &n, &err), err);
    assert_string_equal(n.name, "null");
    assert_string_equal(n.abi, "0.2");
    assert_int_equal(n.abi_major, 0);
    assert_int_equal(n.abi_minor, 2);
    assert_string_equal(n.needs, "");
    build("abi=0.12 name=a-b_1  arch=any needs=libcuda.so.1,libx.so pci=10de,1002 future=yes");
    assert_ok(read_image(sizeof image, &n, &err), err);
    assert_string_equal(n.name, "a-b_1");
    assert_int_equal(n.abi_minor, 12);
    assert_string_equal(n.needs, "libcuda.so.1,libx.so");
    assert_string_equal(n.pci, "10de,1002");
}

static void note_behind_other_notes_is_found(void **state) {
    (void)state;
    peri_note n;
    peri_error err;
    build("abi=0.1 name=x");
    unsigned char ours[64];
    memcpy(ours, image + NOTE_AT, sizeof ours);
    uint32_t other[3] = {4, 20, 3}; /* a build id */
    memcpy(image + NOTE_AT, other, sizeof other);
    memcpy(image + NOTE_AT + 12, "GNU", 4);
    memcpy(image + NOTE_AT + 36, ours, sizeof ours);
    program_header()->p_filesz = 36 + 36;
    assert_ok(read_image(sizeof image, &n, &err), err);
    assert_string_equal(n.name, "x");
}

static void note_for_another_core_or_processor_is_refused(void **state) {
    (void)state;
    build("abi=7.0 name=x");
    assert_refused(PERI_E_ABI, "built for plugin ABI 7.0, this core speaks 0.3");
    build("abi=0.1 name=x arch=ppc64");
    assert_refused(PERI_E_ABI, "built for ppc64, this processor is");
    build("abi=0.1 name=x");
    header()->e_machine = OTHER_MACHINE;
    assert_refused(PERI_E_ABI, OTHER_MACHINE == EM_AARCH64 ? "built for aarch64 (ELF machine 183)"
                                                           : "built for x86-64 (ELF machine 62)");
    build("abi=0.1 name=x");
    header()->e_ident[EI_CLASS] = ELFCLASS32;
    assert_refused(PERI_E_ABI, "a 32-bit shared object");
    build("abi=0.1 name=x");
    header()->e_ident[EI_DATA] = ELFDATA2MSB;
    assert_refused(PERI_E_ABI, "a big-endian shared object");
}

static void note_with_bad_text_is_refused(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"name=x", "found abi '', expected MAJOR.MINOR"},
        {"abi=one name=x", "found abi 'one'"},
        {"abi=0 name=x", "found abi '0'"},
        {"abi=0.1x name=x", "found abi '0.1x'"},
        {"abi=0.99999999999999 name=x", "found abi '0.99999999999999'"},
        {"abi=0.1", "found name ''"},
        {"abi=0.1 name=X", "found name 'X'"},
        {"abi=0.1 name=../x", "found name '../x'"},
        {"abi=0.1 name=x name=y", "name is given twice"},
        {"abi=0.1 name=abcdefghijklmnopqrstuvwxyzabcdefghijkl", "name is too long"},
        {"abi=0.1 nonsense name=x", "found 'nonsense', expected key=value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        build(bad[i][0]);
        assert_refused(PERI_E_CORRUPT, bad[i][1]);
    }
}

static void note_in_a_hostile_file_is_refused(void **state) {
    (void)state;
    uint32_t huge = 0xffffffffu;
    build("abi=0.1 name=x");
    header()->e_ident[0] = 'X';
    assert_refused(PERI_E_CORRUPT, "not a shared object (no ELF header)");
    build("abi=0.1 name=x");
    header()->e_type = ET_EXEC;
    assert_refused(PERI_E_CORRUPT, "ELF type 2, expected a shared object (3)");
    build("abi=0.1 name=x");
    header()->e_phoff = UINT64_MAX - 3;
    assert_refused(PERI_E_CORRUPT, "program header 0 at offset 18446744073709551612");
    build("abi=0.1 name=x");
    header()->e_phnum = 0xffff;
    assert_refused(PERI_E_CORRUPT, "ELF: 65535 program headers of 56 bytes");
    build("abi=0.1 name=x");
    header()->e_phentsize = 1;
    assert_refused(PERI_E_CORRUPT, "program headers of 1 bytes");
    build("abi=0.1 name=x");
    program_header()->p_offset = UINT64_MAX;
    assert_refused(PERI_E_CORRUPT, "truncated: program header 0 ends");
    build("abi=0.1 name=x");
    program_header()->p_filesz = UINT64_MAX;
    assert_refused(PERI_E_CORRUPT, "truncated: program header 0 ends");
    build("abi=0.1 name=x");
    program_header()->p_type = PT_LOAD;
    assert_refused(PERI_E_CORRUPT, "no Perigee note");
    build("abi=0.1 name=x");
    memcpy(image + NOTE_AT, &huge, 4);
    assert_refused(PERI_E_CORRUPT, "note name: needs 4294967296 bytes");
    build("abi=0.1 name=x");
    memcpy(image + NOTE_AT + 4, &huge, 4);
    assert_refused(PERI_E_CORRUPT, "note text: needs 4294967295 bytes");
    build("abi=0.1 name=x");
    uint32_t none = 0, long_text = 2000;
    memcpy(image + NOTE_AT + 4, &none, 4);
    assert_refused(PERI_E_CORRUPT, "Perigee note: found 0 bytes");
    build("abi=0.1 name=x");
    memcpy(image + NOTE_AT + 4, &long_text, 4);
    program_header()->p_filesz = 2020;
    assert_refused(PERI_E_CORRUPT, "Perigee note: found 2000 bytes");
}

/* A note area beyond the limit, in a file that is that large. */
static void note_area_of_megabytes_is_not_searched(void **state) {
    (void)state;
    peri_note n;
    peri_error err;
    build("abi=0.1 name=x");
    program_header()->p_filesz = 64 << 20;
    assert_int_not_equal(read_image(sizeof image, &n, &err), PERI_OK);
    assert_int_equal(truncate(path, 65 << 20), 0);
    assert_int_equal(peri_note_read(path, &n, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "notes of 67108864 bytes, expected at most");
}

/* Every length of a real plugin, and every single byte of its head and note changed: no crash, a
 * reason each. */
static void note_of_a_damaged_file_never_crashes(void **state) {
    (void)state;
    peri_note n;
    peri_error err;
    build("abi=0.1 name=x arch=any needs=libx.so");
    size_t end = NOTE_AT + program_header()->p_filesz;
    for (size_t bytes = 1; bytes < end; bytes++)
        if (read_image(bytes, &n, &err) == PERI_OK || err.text[0] == 0)
            fail_msg("cut to %zu bytes: accepted", bytes);
    unsigned char whole[IMAGE_BYTES];
    memcpy(whole, image, sizeof whole);
    for (size_t i = 0; i < end; i++) {
        if (i >= 120 && i < NOTE_AT) continue;
        static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
        for (size_t k = 0; k < sizeof values; k++) {
            memcpy(image, whole, sizeof image);
            image[i] = values[k];
            peri_status status = read_image(end, &n, &err);
            if (status != PERI_OK && err.code != status) fail_msg("byte %zu: no reason", i);
        }
    }
}

static void note_reading_survives_failing_files_and_memory(void **state) {
    (void)state;
    build("abi=0.1 name=x");
    peri_note n;
    peri_error err;
    assert_ok(read_image(sizeof image, &n, &err), err);
    peri_fault *memory = peri_fault_alloc_install(), *files = peri_fault_io_install();
    for (int what = 0; what < 2; what++) {
        peri_fault *f = what ? files : memory;
        for (uint64_t k = 1;; k++) {
            f->calls = 0;
            f->fail_at = k;
            peri_status status = peri_note_read(path, &n, &err);
            bool is_past_end = f->calls < k;
            if (is_past_end) assert_int_equal(status, PERI_OK);
            if (!is_past_end) assert_int_equal(status, what ? PERI_E_IO : PERI_E_NOMEM);
            assert_int_equal(memory->live, 0);
            assert_int_equal(files->live, 0);
            if (is_past_end) break;
        }
        f->fail_at = 0;
    }
    peri_fault_io_remove();
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(note_of_a_sound_plugin_is_read, make_path, remove_path),
        cmocka_unit_test_setup_teardown(note_behind_other_notes_is_found, make_path, remove_path),
        cmocka_unit_test_setup_teardown(note_for_another_core_or_processor_is_refused, make_path,
                                        remove_path),
        cmocka_unit_test_setup_teardown(note_with_bad_text_is_refused, make_path, remove_path),
        cmocka_unit_test_setup_teardown(note_in_a_hostile_file_is_refused, make_path, remove_path),
        cmocka_unit_test_setup_teardown(note_area_of_megabytes_is_not_searched, make_path,
                                        remove_path),
        cmocka_unit_test_setup_teardown(note_of_a_damaged_file_never_crashes, make_path,
                                        remove_path),
        cmocka_unit_test_setup_teardown(note_reading_survives_failing_files_and_memory, make_path,
                                        remove_path),
    };
    return peri_run_tests(tests);
}
