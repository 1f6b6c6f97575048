//! Limits the memory of all responses that are cached or being sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum total size of all responses in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Maximum total size of the responses of one namespace: a quarter of all memory, enough for three responses of the
/// maximum size.
const MAX_BYTES_OF_NAMESPACE: usize = MAX_BYTES / 4;

/// The number of bytes that responses have reserved, by namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<HashMap<String, usize>>>);

/// Reserved memory, released on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Memory,
    namespace: String,
    bytes: usize,
}

impl Memory {
    /// Reserves memory for a response; `None` if too much is in use.
    pub(super) fn reserve(&self, namespace: &str, bytes: usize) -> Option<Reservation> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = used.values().sum();
        let own = used.get(namespace).copied().unwrap_or_default();
        if total + bytes > MAX_BYTES || own + bytes > MAX_BYTES_OF_NAMESPACE {
            return None;
        }
        used.insert(namespace.to_owned(), own + bytes);
        Some(Reservation {
            memory: self.clone(),
            namespace: namespace.to_owned(),
            bytes,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut used = self.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = used.get_mut(&self.namespace) {
            *own -= self.bytes;
            if *own == 0 {
                used.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: Pods of a namespace request large responses and read them slowly, so that Pods of other namespaces get
    /// none.
    #[test]
    fn a_namespace_uses_a_quarter_of_the_memory_at_most() {
        let memory = Memory::default();
        let reserve = |namespace: &str| memory.reserve(namespace, 4 << 20);
        let greedy: Vec<_> = std::iter::from_fn(|| reserve("greedy")).collect();
        assert_eq!(greedy.len(), 4);
        let quiet = reserve("quiet");
        assert!(quiet.is_some());
        let others: Vec<_> = (0..100).filter_map(|i| reserve(&format!("n{i}"))).collect();
        assert_eq!(others.len(), 11, "64 MiB in total");
        drop((greedy, quiet, others));
        assert!(memory.0.lock().unwrap().is_empty());
    }
}
