//! A bounded pool for work that blocks: private-key operations take milliseconds, files maybe
//! seconds, and neither may hold up the async executor.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Runs blocking work on threads, as many at once as it has places.
#[derive(Debug, Clone)]
pub struct Pool {
    places: Arc<Semaphore>,
}

/// The work was cut short: the process is ending, or the work itself failed beyond repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was cut short; it will be taken up again")]
pub struct Stopped;

impl Pool {
    /// One place a processor: more would only make the work of each take longer.
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            places: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Runs the work as soon as there is a place.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if it did not come to its end.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| Stopped)?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        })
        .await
        .map_err(|_| Stopped)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_back_its_place_even_after_a_panic() {
        let pool = Pool {
            places: Arc::new(Semaphore::new(1)),
        };
        assert_eq!(
            pool.run(|| panic!("on purpose")).await,
            Err::<(), _>(Stopped)
        );
        assert_eq!(pool.run(|| 5).await, Ok(5));
    }
}
