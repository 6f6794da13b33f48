//! What is going to be done with a request.

use std::sync::Arc;

use super::call_plan::CallPlan;
use super::mutate_plan::MutatePlan;
use super::read_plan::ReadPlanTree;
use crate::api_request::types::{InvokeMethod, Mutation};
use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;
use crate::schema_cache::{MediaHandler, Routine};

#[derive(Clone, Debug)]
pub enum ActionPlan {
    /// Reads or writes rows, or calls a function.
    Crud(Box<CrudPlan>),
    /// The OpenAPI document, which needs to know what the role may see.
    Inspect(InspectPlan),
    /// Answered from the schema cache alone.
    Info(InfoPlan),
}

impl ActionPlan {
    pub fn crud(&self) -> Option<&CrudPlan> {
        match self {
            Self::Crud(plan) => Some(plan),
            Self::Inspect(_) | Self::Info(_) => None,
        }
    }

    /// Whether the transaction may be read only.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Crud(plan) => plan.read_only,
            Self::Inspect(_) | Self::Info(_) => true,
        }
    }
}

#[derive(Clone, Debug)]
pub struct CrudPlan {
    pub kind: CrudKind,
    /// What is read; for a write or a call, of its result.
    pub read: ReadPlanTree,
    pub handler: MediaHandler,
    /// What the response is.
    pub media_type: MediaType,
    /// Whether the transaction may be read only.
    pub read_only: bool,
    /// Filters on a whole primary key leave one row at most.
    pub by_key: bool,
    /// The relation, or the function, as the request named it.
    pub target: QualifiedIdentifier,
}

#[derive(Clone, Debug)]
pub enum CrudKind {
    Read { headers_only: bool },
    Mutate { mutation: Mutation, plan: MutatePlan },
    Call { method: InvokeMethod, routine: Arc<Routine>, plan: CallPlan },
}

impl CrudPlan {
    /// The execution plan is the answer, not the result.
    pub fn is_explain(&self) -> bool {
        matches!(self.media_type, MediaType::VndPlan { .. })
    }

    pub fn routine(&self) -> Option<&Arc<Routine>> {
        match &self.kind {
            CrudKind::Call { routine, .. } => Some(routine),
            CrudKind::Read { .. } | CrudKind::Mutate { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct InspectPlan {
    pub media_type: MediaType,
    pub headers_only: bool,
    pub schema: String,
}

#[derive(Clone, Debug)]
pub enum InfoPlan {
    /// OPTIONS on a relation, which need not exist.
    Relation(QualifiedIdentifier),
    Routine(Arc<Routine>),
    Schema,
}
