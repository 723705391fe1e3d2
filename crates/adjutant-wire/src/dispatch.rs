//! From a method name and its parameters to a typed message.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    CallProgress, CancelRequest, CheckpointLoad, CheckpointSave, Delegate, HealthCheck, Hello,
    Initialize, InputRequest, LlmDelta, LlmGenerate, Log, RunCancel, RunEvent, RunHeartbeat,
    RunStart, RunSteer, Shutdown, SignalWait, Sleep, StepBegin, StepEnd, ToolsCall, ToolsChanged,
    ToolsList,
    envelope::{Notification, Outcome, Request},
    error::{Error, Result},
    fault::{ErrorCode, RpcError},
};

/// Parameters of a request; the type knows its method and what is answered.
pub trait Call: Serialize + DeserializeOwned {
    /// The name on the wire.
    const METHOD: &'static str;
    /// The result of success.
    type Answer: Serialize + DeserializeOwned;

    /// Reads a success into its type.
    ///
    /// # Errors
    ///
    /// [`Error::Answer`] when it has another shape.
    fn read_answer(result: Value) -> Result<Self::Answer> {
        serde_json::from_value(result).map_err(|source| Error::Answer {
            method: Self::METHOD,
            source,
        })
    }

    /// Makes a success out of its type; an answer that JSON cannot say becomes -32603.
    ///
    /// # Errors
    ///
    /// That -32603, so that the return value goes into [`Request::answer`] as it is.
    fn write_answer(answer: &Self::Answer) -> Outcome {
        serde_json::to_value(answer)
            .map_err(|error| RpcError::new(ErrorCode::Internal, error.to_string()))
    }
}

/// Parameters of a notification; the type knows its method.
pub trait Notice: Serialize + DeserializeOwned {
    /// The name on the wire.
    const METHOD: &'static str;
}

fn read<T: DeserializeOwned>(method: &str, params: Value) -> Result<T, RpcError> {
    // JSON-RPC lets a sender leave `params` out; for us that is the same as none given.
    let params = if params.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        params
    };
    serde_json::from_value(params)
        .map_err(|error| RpcError::new(ErrorCode::InvalidParams, format!("{method}: {error}")))
}

macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident from $envelope:ident as $kind:ident { $($variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        #[allow(clippy::large_enum_variant, reason = "read, matched and taken apart at once; never kept in bulk")]
        pub enum $name {
            $(#[doc = concat!("See [`", stringify!($variant), "`](crate::", stringify!($variant), ").")] $variant($variant),)*
        }

        impl $name {
            /// The methods it knows.
            pub const METHODS: &'static [&'static str] = &[$(<$variant as $kind>::METHOD,)*];

            /// Reads an envelope.
            ///
            /// # Errors
            ///
            /// -32601 for a method it does not know, -32602 for parameters it cannot read. A request is answered with
            /// that; a notification is dropped.
            pub fn read(envelope: $envelope) -> Result<Self, RpcError> {
                match envelope.method.as_str() {
                    $(<$variant as $kind>::METHOD => read(&envelope.method, envelope.params).map(Self::$variant),)*
                    other => Err(RpcError::method_not_found(other)),
                }
            }
        }

        $(impl From<$variant> for $name {
            fn from(message: $variant) -> Self { Self::$variant(message) }
        })*
    };
}

dispatch! {
    /// A request that an agent sends.
    AgentRequest from Request as Call {
        CheckpointSave, CheckpointLoad, StepBegin, StepEnd, Sleep, SignalWait, Delegate, InputRequest,
        ToolsList, ToolsCall, LlmGenerate,
    }
}
dispatch! {
    /// A notification that an agent sends.
    AgentNotice from Notification as Notice { Hello, RunEvent, RunHeartbeat, Log, CancelRequest, }
}
dispatch! {
    /// A request that the host sends.
    HostRequest from Request as Call { Initialize, RunStart, HealthCheck, Shutdown, }
}
dispatch! {
    /// A notification that the host sends.
    HostNotice from Notification as Notice {
        RunCancel, RunSteer, ToolsChanged, CallProgress, LlmDelta, CancelRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(method: &str, params: Value) -> Request {
        Request {
            id: 1.into(),
            method: method.into(),
            params,
        }
    }

    #[test]
    fn an_unknown_method_is_refused_as_such() {
        for method in ["", "run/stop", "Initialize", "rpc.discover"] {
            let error = HostRequest::read(request(method, json!({}))).unwrap_err();
            assert!(error.is(ErrorCode::MethodNotFound));
        }
    }

    #[test]
    fn parameters_of_the_wrong_shape_are_refused_as_such() {
        for params in [
            json!([]),
            json!({}),
            json!({"runId": 1}),
            json!("x"),
            json!(null),
        ] {
            let error = AgentRequest::read(request("step/begin", params)).unwrap_err();
            assert!(error.is(ErrorCode::InvalidParams), "{error}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_run_fields_lie_flat() {
        let params = json!({"runId": "r", "attempt": 2, "epoch": 9, "key": "k", "later": {"x": 1}});
        let AgentRequest::StepBegin(step) =
            AgentRequest::read(request("step/begin", params)).unwrap()
        else {
            panic!("another type");
        };
        assert_eq!(
            (
                step.scope.run_id.as_str(),
                step.scope.attempt,
                step.scope.epoch
            ),
            ("r", 2, 9)
        );
        let value = serde_json::to_value(&step).unwrap();
        assert_eq!(
            value,
            json!({"runId": "r", "attempt": 2, "epoch": 9, "key": "k"})
        );
    }

    #[test]
    fn a_health_check_may_leave_its_parameters_out() {
        assert!(HostRequest::read(request("health/check", Value::Null)).is_ok());
    }

    #[test]
    fn every_typed_request_reads_back_as_itself() {
        fn check<C: Call + Into<AgentRequest> + Clone>(call: C) {
            let request = Request::call(1, &call).unwrap();
            assert_eq!(AgentRequest::read(request).unwrap(), call.into());
        }
        check(CheckpointSave::default());
        check(CheckpointLoad::default());
        check(StepBegin {
            input_hash: Some("h".into()),
            ..StepBegin::default()
        });
        check(StepEnd {
            result: Some(json!([1])),
            ..StepEnd::default()
        });
        check(Sleep {
            seconds: 1.5,
            ..Sleep::default()
        });
        check(SignalWait {
            timeout_seconds: Some(2.0),
            ..SignalWait::default()
        });
        check(Delegate {
            children: vec![crate::Child::default()],
            ..Delegate::default()
        });
        check(InputRequest::default());
        check(ToolsList::default());
        check(ToolsCall::default());
        check(LlmGenerate::default());
    }
}
