//! How many calls may be under way: a project whose target is slow must not take every place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// For all projects together, and for one.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 32;
/// From here on a project has few at a time, so that there is one for whoever has none.
const CROWDED: usize = MOST / 4 * 3;
const MOST_OF_ONE_IN_A_CROWD: usize = 2;

#[derive(Default)]
struct Counts {
    all: usize,
    of: HashMap<String, usize>,
}

/// Counts calls under way.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Mutex<Counts>>);

/// One place, given back on drop.
pub(crate) struct Place {
    places: Places,
    whose: String,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a call of `whose`; none when there is none.
    pub(crate) fn take(&self, whose: &str) -> Option<Place> {
        let mut counts = self.lock();
        let own = counts.of.get(whose).copied().unwrap_or_default();
        let most = if counts.all >= CROWDED { MOST_OF_ONE_IN_A_CROWD } else { MOST_OF_ONE };
        if counts.all >= MOST || own >= most {
            return None;
        }
        counts.all += 1;
        counts.of.insert(whose.to_owned(), own + 1);
        Some(Place { places: self.clone(), whose: whose.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.lock();
        counts.all -= 1;
        if let Some(own) = counts.of.get_mut(&self.whose) {
            *own -= 1;
            if *own == 0 {
                counts.of.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_projects_cannot_either() {
        let places = Places::default();
        let names: Vec<String> = (0..64).map(|n| format!("project {n}")).collect();
        let taken: Vec<Place> =
            names.iter().flat_map(|name| (0..MOST_OF_ONE).filter_map(|_| places.take(name))).collect();
        assert!(taken.len() < MOST, "{}", taken.len());
        assert!(places.take("another").is_some() && places.take(&names[0]).is_none());
    }

    #[test]
    fn one_project_cannot_take_every_place() {
        let places = Places::default();
        let taken: Vec<Place> = (0..MOST_OF_ONE).map(|_| places.take("a").unwrap()).collect();
        assert!(places.take("a").is_none() && places.take("b").is_some());
        drop(taken);
        assert!(places.take("a").is_some() && places.lock().of.is_empty() && places.lock().all == 0);
    }
}
