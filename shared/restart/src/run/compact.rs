//! Reduces objects of the API server to the fields that `seal restart` needs.

use std::borrow::Cow;
use std::fmt::Debug;

use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use crate::fields::{self, Fields};
use crate::pod::Pod;
use crate::sealed::{Namespace, Sealed};
use crate::workload::{Kind, Workload};

/// The part of an object that stays in memory.
pub(super) trait Form: Clone + Debug + Send + 'static {
    /// The fields of the object that are read.
    const FIELDS: Fields;

    /// Reads the object. Never fails, so that no object can make a list or watch unreadable.
    fn read(object: &Json) -> Self;
}

/// The reduced form of an object, with its identity.
#[derive(Debug, Clone)]
pub(super) struct CompactObject<F> {
    metadata: ObjectMeta,
    pub(super) form: F,
}

impl<F> CompactObject<F> {
    pub(super) fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    pub(super) fn map<G>(self, map: impl FnOnce(F) -> G) -> CompactObject<G> {
        CompactObject {
            metadata: self.metadata,
            form: map(self.form),
        }
    }

    pub(super) fn namespace(&self) -> String {
        self.metadata.namespace.clone().unwrap_or_default()
    }
}

impl<'de, F: Form> Deserialize<'de> for CompactObject<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = fields::object(deserializer, F::FIELDS)?.json;
        let text = |name: &str| json["metadata"][name].as_str().map(str::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        let form = F::read(&json);
        Ok(Self { metadata, form })
    }
}

impl<F> Resource for CompactObject<F> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Form for Sealed {
    const FIELDS: Fields = fields::SEALED_SECRET;

    fn read(object: &Json) -> Self {
        Self::read(object)
    }
}

impl Form for Namespace {
    const FIELDS: Fields = fields::METADATA;

    fn read(object: &Json) -> Self {
        Self::read(object)
    }
}

/// A Pod, if [`Pod::read_started`] returns it.
impl Form for Option<Pod> {
    const FIELDS: Fields = fields::POD;

    fn read(object: &Json) -> Self {
        Pod::read_started(object)
    }
}

/// A workload whose kind is `Kind::ALL[KIND]`.
#[derive(Debug, Clone)]
pub(super) struct WorkloadOfKind<const KIND: usize>(pub(super) Workload);

impl<const KIND: usize> Form for WorkloadOfKind<KIND> {
    const FIELDS: Fields = fields::WORKLOAD;

    fn read(object: &Json) -> Self {
        Self(Workload::read(Kind::ALL[KIND], object))
    }
}

/// Nothing but the identity of the object.
impl Form for () {
    const FIELDS: Fields = fields::METADATA;

    fn read(_: &Json) -> Self {}
}

/// A workload as JSON.
#[derive(Debug, Clone)]
pub(super) struct AnyWorkload(pub(super) Json);

impl Form for AnyWorkload {
    const FIELDS: Fields = fields::WORKLOAD;

    fn read(object: &Json) -> Self {
        Self(object.clone())
    }
}

/// Returns the API resource of a kind of workload.
pub(super) fn workloads(kind: Kind) -> ApiResource {
    let (group, version) = kind.group_version();
    resource(group, version, kind.name(), kind.plural())
}

pub(super) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let separator = if group.is_empty() { "" } else { "/" };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}{separator}{version}"),
        kind: kind.into(),
        plural: plural.into(),
    }
}
