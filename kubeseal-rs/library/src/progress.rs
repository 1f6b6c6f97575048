//! Shows the progress of a long run in the status line, which is cleared at the end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::notice::StatusLine;

/// The shortest time between two updates.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The width of the bar, in characters.
const WIDTH: usize = 30;

/// Counts the completed steps of a run, from any thread.
pub struct Progress {
    unit: &'static str,
    total: usize,
    status_line: Option<StatusLine>,
    state: Mutex<State>,
}

struct State {
    done: usize,
    updated: Option<Instant>,
}

impl Progress {
    /// Starts at zero of `total` steps. `unit` is a plural noun, such as `files`.
    pub fn new(unit: &'static str, total: usize, status_line: Option<StatusLine>) -> Self {
        let (done, updated) = (0, None);
        Self {
            unit,
            total,
            status_line,
            state: Mutex::new(State { done, updated }),
        }
    }

    /// Counts one more step.
    pub fn step(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += 1;
        if let Some(show) = self.status_line
            && state
                .updated
                .is_none_or(|updated| updated.elapsed() >= MIN_INTERVAL)
        {
            state.updated = Some(Instant::now());
            show(&line(self.unit, state.done, self.total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(show) = self.status_line.filter(|_| state.updated.is_some()) {
            show("");
        }
    }
}

fn line(unit: &str, done: usize, total: usize) -> String {
    let filled = (done * WIDTH).checked_div(total).unwrap_or(0).min(WIDTH);
    let (full, empty) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
    format!("[{full}{empty}] {done}/{total} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_the_share_of_completed_steps() {
        let half = format!("[{}{}] 5/10 files", "#".repeat(15), "-".repeat(15));
        assert_eq!(line("files", 5, 10), half);
        assert!(line("files", 0, 0).starts_with("[---"));
        assert!(line("files", 3, 2).contains("###] 3/2"));
    }
}
