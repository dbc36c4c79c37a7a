//! The CustomResourceDefinitions, generated from the types.

use crate::{Placement, Stream, Streamer};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The definitions as they are installed. Use these, not the types' own `crd()`, which cannot say everything.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut placement = Placement::crd();
    for version in &mut placement.spec.versions {
        version.subresources = None; // records and counts are written by one patch
    }
    let mut crds = vec![placement, Stream::crd(), Streamer::crd()];
    let schemas = crds.iter_mut().flat_map(|crd| &mut crd.spec.versions).filter_map(|version| version.schema.as_mut());
    schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()).for_each(conform);
    crds
}

/// The definitions as one YAML stream, the same at every call.
pub fn crds_yaml() -> String {
    crds().iter().fold(String::new(), |yaml, crd| yaml + "---\n" + &crd_yaml(crd))
}

/// One definition as YAML.
pub fn crd_yaml(crd: &CustomResourceDefinition) -> String {
    // Serialising our own constant types into memory has nothing that can fail.
    serde_yaml::to_string(crd).unwrap_or_default()
}

/// The name of the file in `crds/yaml` that holds this definition.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.singular.as_deref().unwrap_or(&crd.spec.names.plural))
}

/// What Kubernetes does and schemars does not: a null is as good as an absent field, and integers are signed.
fn conform(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = Some("int64".into());
        schema.minimum = schema.minimum.or(Some(0.0));
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(conform);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        conform(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        conform(values);
    }
}
