//! Memory for bodies that are read whole: JSON, XML, fields of forms. The gateway does not count them, because it takes
//! bodies of this service for contents that are passed on piece by piece.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base::ProjectRef;
use web::byte_budget::{ByteBudget, Held};

use crate::error::Error;

/// Bytes of all such bodies together, and of one project's.
const ALL: u64 = 64 * 1024 * 1024;
const OF_PROJECT: u64 = 16 * 1024 * 1024;
/// Projects remembered before those of which nothing is held are forgotten.
const MANY: usize = 1_024;

pub(crate) struct Memory {
    all: Arc<ByteBudget>,
    projects: Mutex<HashMap<ProjectRef, Arc<ByteBudget>>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { all: ByteBudget::new(ALL), projects: Mutex::default() }
    }
}

/// What one body holds. Given back when dropped.
pub(crate) struct Room(Held);

impl Room {
    /// Room for more bytes.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), Error> {
        match self.0.grow(bytes as u64, 1) {
            true => Ok(()),
            false => Err(Error::Busy("Too many requests with large bodies are in progress, try again later")),
        }
    }
}

impl Memory {
    /// Nothing yet, on behalf of a project.
    pub(crate) fn room(&self, project: &ProjectRef) -> Room {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        if projects.len() >= MANY {
            projects.retain(|_, budget| budget.held() > 0);
        }
        let own = projects.entry(project.clone()).or_insert_with(|| ByteBudget::new(OF_PROJECT));
        Room(Held::none(&self.all, Some(own)))
    }
}
