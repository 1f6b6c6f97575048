//! Searches the memory of another process.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;

/// Number of bytes to read at a time, without the overlap.
const CHUNK_LEN: usize = 1 << 20;

/// Returns the names of the needles that occur in the writable memory of a process.
///
/// # Panics
/// Panics if the process has ended, or if this process may not read its memory; only root may read the controller's.
pub fn needles_in_memory<'a>(process: u32, needles: &[(&'a str, Vec<u8>)]) -> Vec<&'a str> {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap_or_else(|error| {
        panic!("cannot read the memory of the controller ({error}): run this test as root")
    });
    let regions = writable_regions(process);
    let occurs = |needle: &[u8]| {
        let contains = |&(start, end): &(u64, u64)| contains(&memory, start, end, needle);
        regions.iter().any(contains)
    };
    let present = needles.iter().filter(|(_, needle)| occurs(needle));
    present.map(|(name, _)| *name).collect()
}

/// Returns start and end of each region that the process can read and write.
fn writable_regions(process: u32) -> Vec<(u64, u64)> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("the process is running");
    let region = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with("rw")
            .then_some((address(start)?, address(end)?))
    };
    maps.lines().filter_map(region).collect()
}

/// Searches a region. Chunks overlap, so that no needle is split. The rest of a region from the first error on counts
/// as empty: the region may have disappeared.
fn contains(memory: &File, start: u64, end: u64, needle: &[u8]) -> bool {
    let mut chunk = vec![0; CHUNK_LEN + needle.len()];
    let mut offset = start;
    loop {
        let len = usize::try_from(end - offset).map_or(chunk.len(), |rest| rest.min(chunk.len()));
        match memory.read_at(&mut chunk[..len], offset) {
            Ok(read) if memchr::memmem::find(&chunk[..read], needle).is_some() => return true,
            Ok(read) if read < needle.len() || offset + read as u64 >= end => return false,
            // Fewer bytes than requested may have been read.
            Ok(read) => offset += (read - needle.len() + 1) as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
