//! Shows the progress of a long run in one line of stderr, which is overwritten and cleared at the
//! end. Only on a terminal.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two updates.
const PAUSE: Duration = Duration::from_millis(100);
/// The width of the bar, in characters.
const WIDTH: usize = 30;

/// Counts steps, from any thread.
pub struct Progress {
    what: &'static str,
    total: usize,
    is_shown: bool,
    state: Mutex<State>,
}

struct State {
    done: usize,
    shown: Option<Instant>,
}

impl Progress {
    /// Starts at zero of `total` steps. `what` is a plural noun, such as `files`.
    pub fn new(what: &'static str, total: usize, is_shown: bool) -> Self {
        let (done, shown) = (0, None);
        Self {
            what,
            total,
            is_shown,
            state: Mutex::new(State { done, shown }),
        }
    }

    /// Counts one more step.
    pub fn step(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += 1;
        if self.is_shown && state.shown.is_none_or(|shown| shown.elapsed() >= PAUSE) {
            state.shown = Some(Instant::now());
            let _ = write!(
                std::io::stderr(),
                "\r{}",
                line(self.what, state.done, self.total)
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

fn line(what: &str, done: usize, total: usize) -> String {
    let filled = (done * WIDTH).checked_div(total).unwrap_or(0).min(WIDTH);
    let (full, rest) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
    format!("[{full}{rest}] {done}/{total} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_with_what_is_done() {
        let half = format!("[{}{}] 5/10 files", "#".repeat(15), "-".repeat(15));
        assert_eq!(line("files", 5, 10), half);
        assert!(line("files", 0, 0).starts_with("[---"));
        assert!(line("files", 3, 2).contains("###] 3/2"));
    }
}
