//! One AdmissionReview (`admission.k8s.io/v1`): read, judged, answered. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Outcome;
use crate::inject::{self, INJECT, Settings, YES};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What the API server asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    api_version: String,
    kind: String,
    request: Review,
}

/// One request of it. What else it has, nobody here reads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    uid: String,
    kind: Kind,
    operation: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Kind {
    group: String,
    kind: String,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Injected(Patch),
    Untouched,
    Refused {
        why: String,
        /// Whether the sentence may stand in the log.
        shown: bool,
    },
}

impl Verdict {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Injected(_) => Outcome::Injected,
            Self::Untouched => Outcome::Untouched,
            Self::Refused { .. } => Outcome::Refused,
        }
    }
}

/// Reads what was posted; a sentence where it is no review.
pub fn read(body: &[u8]) -> Result<Review, String> {
    let asked: Asked = serde_json::from_slice(body)
        .map_err(|error| format!("this is no {KIND} of {API_VERSION} with a request: {error}\n"))?;
    if asked.api_version != API_VERSION || asked.kind != KIND || asked.request.uid.is_empty() {
        return Err(format!("this is no {KIND} of {API_VERSION} with a request that has a uid\n"));
    }
    Ok(asked.request)
}

impl Review {
    /// The pod's namespace: the pod itself may not say it yet.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod's name, or what its name will begin with.
    pub fn pod(&self) -> &str {
        let metadata = &self.object["metadata"];
        let name = metadata["name"].as_str().filter(|name| !name.is_empty());
        name.or(metadata["generateName"].as_str()).unwrap_or_default()
    }

    /// What is to be done.
    pub fn judge(&self, settings: &Settings) -> Verdict {
        let pod = Kind { group: String::new(), kind: "Pod".into() };
        let is_new_pod = self.kind == pod && self.operation == "CREATE" && self.sub_resource.is_empty();
        if !is_new_pod || self.object["metadata"]["labels"][INJECT] != YES {
            return Verdict::Untouched;
        }
        // The words of that error may be a value of the pod.
        let shown = Pod::deserialize(&self.object).is_ok();
        match inject::patch(&self.object, settings) {
            Ok(patch) if patch.0.is_empty() => Verdict::Untouched,
            Ok(patch) => Verdict::Injected(patch),
            Err(refusal) => Verdict::Refused { why: refusal.to_string(), shown },
        }
    }

    /// The whole AdmissionReview that goes back.
    pub fn answer(&self, verdict: &Verdict) -> Value {
        let mut response = json!({"uid": self.uid, "allowed": !matches!(verdict, Verdict::Refused { .. })});
        match verdict {
            Verdict::Untouched => {}
            Verdict::Injected(patch) => {
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(json!(patch).to_string()));
            }
            Verdict::Refused { why, .. } => {
                response["status"] = json!({"code": 422, "reason": "Invalid", "message": why});
            }
        }
        json!({"apiVersion": API_VERSION, "kind": KIND, "response": response})
    }
}
