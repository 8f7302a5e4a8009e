/* SPDX-License-Identifier: MIT
 *
 * note.c - reads a plugin's ELF note without loading the file, so that no code of it runs before we
 * know that it is a plugin, of our ABI, for this processor.
 *
 * The file is untrusted: it may be no ELF file, another machine's, truncated, or lie in every
 * field. All reads go through a peri_reader over the mapping; notes larger than NOTE_BYTES_MAX are
 * refused rather than searched.  Source: System V ABI, chapters 4 (object files) and 5 (note
 * section). */
#include <ctype.h>
#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/reader.h"
#include "plugin/plugin_int.h"

#include "base/compiler.h"

enum {
    NOTE_BYTES_MAX = 1 << 20, /* per program header; real ones have a few hundred bytes */
    PROGRAM_HEADER_MAX = 512, /* real files have about ten */
    TEXT_MAX = 1000,          /* bytes of our note's text */
    ELF_EHDR_BYTES = 64,
    ELF_PHDR_BYTES = 56,
};

#if defined(__x86_64__)
static const unsigned our_machine = EM_X86_64;
static const char our_arch[] = "x86-64";
#elif defined(__aarch64__)
static const unsigned our_machine = EM_AARCH64;
static const char our_arch[] = "aarch64";
#else
#error "name this processor here and in plugin.h"
#endif

static const char *machine_name(unsigned machine) {
    switch (machine) {
    case EM_386:
        return "x86";
    case EM_ARM:
        return "arm";
    case EM_X86_64:
        return "x86-64";
    case EM_AARCH64:
        return "aarch64";
    case EM_PPC64:
        return "ppc64";
    case EM_RISCV:
        return "riscv";
    default:
        return "an unknown processor";
    }
}

/* ---- the text: space-separated key=value
 * ---------------------------------------------------------- */

/* "0.1"; false when it is something else. */
static bool parse_abi(peri_note *n) {
    char *end;
    if (!isdigit((unsigned char)n->abi[0])) return false;
    unsigned long major = strtoul(n->abi, &end, 10);
    if (*end != '.' || !isdigit((unsigned char)end[1])) return false;
    unsigned long minor = strtoul(end + 1, &end, 10);
    if (*end != 0 || major > UINT16_MAX || minor > UINT16_MAX) return false;
    n->abi_major = (uint32_t)major;
    n->abi_minor = (uint32_t)minor;
    return true;
}

static bool is_name(const char *s) {
    if (*s == 0) return false;
    for (; *s != 0; s++)
        if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && strchr("_-", *s) == NULL)
            return false;
    return true;
}

static peri_status set_field(peri_note *n, const char *word, size_t size, peri_error *err) {
    const struct {
        const char *key;
        char *value;
        size_t room;
    } fields[] = {{"abi", n->abi, sizeof n->abi},
                  {"name", n->name, sizeof n->name},
                  {"arch", n->arch, sizeof n->arch},
                  {"needs", n->needs, sizeof n->needs},
                  {"pci", n->pci, sizeof n->pci}};
    const char *equals = memchr(word, '=', size);
    if (equals == NULL)
        return peri_fail(err, PERI_E_CORRUPT, "Perigee note: found '%.*s', expected key=value",
                         (int)(size > 40 ? 40 : size), word);
    size_t key = (size_t)(equals - word), value = size - key - 1;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strlen(fields[i].key) != key || memcmp(fields[i].key, word, key) != 0) continue;
        if (value >= fields[i].room || fields[i].value[0] != 0)
            return peri_fail(err, PERI_E_CORRUPT, "Perigee note: %s %s", fields[i].key,
                             fields[i].value[0] != 0 ? "is given twice" : "is too long");
        memcpy(fields[i].value, equals + 1, value);
    }
    return PERI_OK; /* keys of later versions are ignored */
}

static peri_status parse_text(const char *text, peri_note *n, peri_error *err) {
    for (const char *s = text; *s != 0;) {
        size_t size = strcspn(s, " ");
        peri_status status = size == 0 ? PERI_OK : set_field(n, s, size, err);
        if (status != PERI_OK) return status;
        s += size;
        if (*s == ' ') s++;
    }
    if (!parse_abi(n))
        return peri_fail(err, PERI_E_CORRUPT, "Perigee note: found abi '%s', expected MAJOR.MINOR",
                         n->abi);
    if (n->abi_major != PERI_ABI_MAJOR)
        return peri_fail(err, PERI_E_ABI, "built for plugin ABI %s, this core speaks %d.%d", n->abi,
                         PERI_ABI_MAJOR, PERI_ABI_MINOR);
    if (!is_name(n->name))
        return peri_fail(err, PERI_E_CORRUPT,
                         "Perigee note: found name '%s', expected small letters, digits, - and _",
                         n->name);
    if (n->arch[0] != 0 && strcmp(n->arch, "any") != 0 && strcmp(n->arch, our_arch) != 0)
        return peri_fail(err, PERI_E_ABI, "built for %s, this processor is %s", n->arch, our_arch);
    return PERI_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

typedef struct elf_header {
    uint64_t phoff;
    uint16_t phentsize, phnum;
} elf_header;

static peri_status read_header(peri_reader *r, elf_header *h, peri_error *err) {
    const uint8_t *ident, *rest;
    if (r->size < SELFMAG || memcmp(r->data, ELFMAG, SELFMAG) != 0)
        return peri_fail(err, PERI_E_CORRUPT, "not a shared object (no ELF header)");
    peri_status status = peri_read_bytes(r, "ELF identification", EI_NIDENT, &ident, err);
    if (status != PERI_OK) return status;
    if (ident[EI_CLASS] != ELFCLASS64)
        return peri_fail(err, PERI_E_ABI, "a %s-bit shared object, expected 64-bit",
                         ident[EI_CLASS] == ELFCLASS32 ? "32" : "strange");
    if (ident[EI_DATA] != ELFDATA2LSB)
        return peri_fail(err, PERI_E_ABI, "a big-endian shared object, expected little-endian");
    uint16_t type, machine, ehsize;
    uint64_t entry, shoff;
    uint32_t version, flags;
    if ((status = peri_read_u16(r, "ELF type", &type, err)) != PERI_OK ||
        (status = peri_read_u16(r, "ELF machine", &machine, err)) != PERI_OK ||
        (status = peri_read_u32(r, "ELF version", &version, err)) != PERI_OK ||
        (status = peri_read_u64(r, "ELF entry", &entry, err)) != PERI_OK ||
        (status = peri_read_u64(r, "ELF program headers", &h->phoff, err)) != PERI_OK ||
        (status = peri_read_u64(r, "ELF sections", &shoff, err)) != PERI_OK ||
        (status = peri_read_u32(r, "ELF flags", &flags, err)) != PERI_OK ||
        (status = peri_read_u16(r, "ELF header size", &ehsize, err)) != PERI_OK ||
        (status = peri_read_u16(r, "ELF program header size", &h->phentsize, err)) != PERI_OK ||
        (status = peri_read_u16(r, "ELF program header count", &h->phnum, err)) != PERI_OK ||
        (status = peri_read_bytes(r, "ELF header", ELF_EHDR_BYTES - r->off, &rest, err)) != PERI_OK)
        return status;
    if (machine != our_machine)
        return peri_fail(err, PERI_E_ABI, "built for %s (ELF machine %u), this processor is %s",
                         machine_name(machine), machine, our_arch);
    if (type != ET_DYN)
        return peri_fail(err, PERI_E_CORRUPT, "ELF type %u, expected a shared object (3)", type);
    if (h->phentsize != ELF_PHDR_BYTES || h->phnum > PROGRAM_HEADER_MAX)
        return peri_fail(err, PERI_E_CORRUPT,
                         "ELF: %u program headers of %u bytes, expected at most %d of %d", h->phnum,
                         h->phentsize, (int)PROGRAM_HEADER_MAX, (int)ELF_PHDR_BYTES);
    return PERI_OK;
}

/* One PT_NOTE area: namesz, descsz, type, name, desc, each padded.  *text gets our note's. */
static peri_status scan_notes(peri_reader area, uint64_t align, char *text, bool *found,
                              peri_error *err) {
    while (peri_reader_left(&area) >= 12) {
        uint32_t namesz, descsz, type;
        uint64_t name_room, desc_room;
        const uint8_t *name, *desc;
        peri_status status;
        if ((status = peri_read_u32(&area, "note name size", &namesz, err)) != PERI_OK ||
            (status = peri_read_u32(&area, "note text size", &descsz, err)) != PERI_OK ||
            (status = peri_read_u32(&area, "note type", &type, err)) != PERI_OK)
            return status;
        /* Both are 32-bit numbers, so padding cannot overflow. */
        peri_pad_u64(namesz, 4, &name_room);
        peri_pad_u64(descsz, align, &desc_room);
        if ((status = peri_read_bytes(&area, "note name", name_room, &name, err)) != PERI_OK)
            return status;
        /* The last note of an area may lack its padding. */
        if (desc_room > peri_reader_left(&area)) desc_room = descsz;
        if ((status = peri_read_bytes(&area, "note text", desc_room, &desc, err)) != PERI_OK)
            return status;
        if (type != PERI_NOTE_TYPE || namesz != 8 || memcmp(name, "Perigee", 8) != 0) continue;
        if (descsz > TEXT_MAX || descsz == 0)
            return peri_fail(err, PERI_E_CORRUPT, "Perigee note: found %u bytes, expected 1 to %d",
                             descsz, (int)TEXT_MAX);
        memcpy(text, desc, descsz);
        text[descsz] = 0;
        *found = true;
        return PERI_OK;
    }
    return PERI_OK;
}

static peri_status find_text(peri_reader *r, char *text, peri_error *err) {
    elf_header h;
    bool found = false;
    peri_status status = read_header(r, &h, err);
    if (status != PERI_OK) return status;
    for (uint32_t i = 0; i < h.phnum && !found; i++) {
        uint32_t type, flags;
        uint64_t at, off, vaddr, paddr, filesz, memsz, align;
        if (!peri_add_u64(h.phoff, (uint64_t)i * ELF_PHDR_BYTES, &at) || at > r->size)
            return peri_fail(err, PERI_E_CORRUPT,
                             "%s: program header %u at offset %" PRIu64 ", file ends at %" PRIu64,
                             r->name, i, h.phoff, r->size);
        r->off = at;
        if ((status = peri_read_u32(r, "program header type", &type, err)) != PERI_OK ||
            (status = peri_read_u32(r, "program header flags", &flags, err)) != PERI_OK ||
            (status = peri_read_u64(r, "program header offset", &off, err)) != PERI_OK ||
            (status = peri_read_u64(r, "program header address", &vaddr, err)) != PERI_OK ||
            (status = peri_read_u64(r, "program header address", &paddr, err)) != PERI_OK ||
            (status = peri_read_u64(r, "program header file size", &filesz, err)) != PERI_OK ||
            (status = peri_read_u64(r, "program header memory size", &memsz, err)) != PERI_OK ||
            (status = peri_read_u64(r, "program header alignment", &align, err)) != PERI_OK)
            return status;
        if (type != PT_LOAD && type != PT_NOTE) continue;
        /* A truncated file is refused here: mapping its segments would end in SIGBUS. */
        if (off > r->size || filesz > r->size - off)
            return peri_fail(err, PERI_E_CORRUPT,
                             "truncated: program header %u ends %" PRIu64
                             " bytes past the file's end",
                             i, filesz - (off > r->size ? 0 : r->size - off));
        if (type != PT_NOTE) continue;
        if (filesz > NOTE_BYTES_MAX)
            return peri_fail(err, PERI_E_CORRUPT,
                             "program header %u: notes of %" PRIu64 " bytes, expected at most %d",
                             i, filesz, (int)NOTE_BYTES_MAX);
        peri_reader area = {.name = r->name, .data = r->data + off, .size = filesz};
        status = scan_notes(area, align == 8 ? 8 : 4, text, &found, err);
        if (status != PERI_OK) return status;
    }
    if (!found)
        return peri_fail(err, PERI_E_CORRUPT,
                         "no Perigee note: not a Perigee plugin, or a stripped one");
    return PERI_OK;
}

peri_status peri_note_read(const char *path, peri_note *out, peri_error *err) {
    char text[TEXT_MAX + 1];
    peri_mapping *m;
    const char *slash = strrchr(path, '/');
    *out = (peri_note){0};
    peri_status status = peri_mapping_open(path, &m, err);
    if (status != PERI_OK) return status;
    peri_reader r = {.name = slash != NULL ? slash + 1 : path,
                     .data = peri_mapping_data(m),
                     .size = peri_mapping_size(m)};
    status = find_text(&r, text, err);
    if (status == PERI_OK) status = parse_text(text, out, err);
    /* Had the file shrunk meanwhile, we would have read zeros. */
    if (status == PERI_OK) status = peri_mapping_check(m, err);
    peri_mapping_close(m);
    return status;
}
