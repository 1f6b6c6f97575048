//! Tests how the programs are linked, by their ELF headers.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use tests::binaries;

/// A 64-bit little-endian ELF file (elf(5)), with its type and program headers.
struct Elf {
    kind: u64,
    /// The type, flags, offset and size of each segment.
    segments: Vec<[usize; 4]>,
    bytes: Vec<u8>,
}

const ET_DYN: u64 = 3;
const PT_DYNAMIC: usize = 2;
const PT_GNU_STACK: usize = 0x6474_e551;
const PT_GNU_RELRO: usize = 0x6474_e552;
const PF_X: usize = 1;
const PF_W: usize = 2;
const PT_LOAD: usize = 1;
const DT_FLAGS: u64 = 30;
const DF_BIND_NOW: u64 = 8;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_NOW: u64 = 1;

impl Elf {
    fn read(program: &PathBuf) -> Self {
        let bytes = fs::read(program).unwrap();
        assert_eq!(bytes[..6], *b"\x7fELF\x02\x01", "{}", program.display());
        let mut elf = Self {
            kind: 0,
            segments: Vec::new(),
            bytes,
        };
        elf.kind = elf.read_number(16, 2);
        let (table, size, count) = (
            elf.read_offset(32),
            elf.read_number(54, 2),
            elf.read_number(56, 2),
        );
        for i in 0..count {
            let offset = table + usize::try_from(i * size).unwrap();
            let word = |offset| usize::try_from(elf.read_number(offset, 4)).unwrap();
            let segment = [
                word(offset),
                word(offset + 4),
                elf.read_offset(offset + 8),
                elf.read_offset(offset + 32),
            ];
            elf.segments.push(segment);
        }
        elf
    }

    fn read_number(&self, offset: usize, size: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.bytes[offset..offset + size]);
        u64::from_le_bytes(bytes)
    }

    fn read_offset(&self, offset: usize) -> usize {
        usize::try_from(self.read_number(offset, 8)).unwrap()
    }

    fn segments(&self, kind: usize) -> impl Iterator<Item = &[usize; 4]> {
        self.segments
            .iter()
            .filter(move |segment| segment[0] == kind)
    }

    /// Returns whether all addresses are resolved before the program starts. With a RELRO segment, its function tables
    /// are then read-only.
    fn has_immediate_binding(&self) -> bool {
        let entries = self.segments(PT_DYNAMIC).flat_map(|[_, _, start, size]| {
            (*start..start + size)
                .step_by(16)
                .map(|offset| (self.read_number(offset, 8), self.read_number(offset + 8, 8)))
        });
        let mut entries = entries;
        entries.any(|(tag, value)| {
            tag == DT_FLAGS && value & DF_BIND_NOW != 0
                || tag == DT_FLAGS_1 && value & DF_1_NOW != 0
        })
    }
}

/// Attack: an attacker exploits a memory flaw with addresses that are the same in each run, with a writable function
/// table, or with an executable stack.
#[test]
fn programs_have_random_addresses_read_only_tables_and_no_writable_code() {
    for program in [
        binaries::controller(),
        binaries::kubeseal(),
        binaries::seal(),
        binaries::seal_deliver(),
    ] {
        let (elf, name) = (Elf::read(&program), program.display().to_string());
        assert_eq!(elf.kind, ET_DYN, "{name} has a fixed address");
        assert_eq!(
            elf.segments(PT_GNU_RELRO).count(),
            1,
            "{name} has writable tables"
        );
        assert!(
            elf.has_immediate_binding(),
            "{name} resolves addresses lazily"
        );
        let stack: Vec<_> = elf.segments(PT_GNU_STACK).collect();
        assert!(
            stack.len() == 1 && stack[0][1] & PF_X == 0,
            "{name} has an executable stack"
        );
        let writable_code = elf
            .segments(PT_LOAD)
            .filter(|segment| segment[1] & (PF_W | PF_X) == PF_W | PF_X);
        assert_eq!(writable_code.count(), 0, "{name} has writable code");
    }
}
