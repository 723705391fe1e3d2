//! How all but records is stored: numbers with a space behind each, then text. These shapes change only with the
//! schema.

use adjutant_core::{
    Event, EventType, Fingerprint, Json, NewEvent, RunId, StepKind, StepOutcome, StepRecord,
    Timestamp, Visibility,
};
use adjutant_queue::{Group, Payload, Signal};
use adjutant_state::Checkpoint;

/// What is wrong with a stored value.
pub(crate) type Read<T> = Result<T, String>;

/// Takes numbers and texts off the front.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn new(bytes: &'a [u8]) -> Read<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")?;
        Ok(Self(text))
    }

    fn word(&mut self) -> Read<&'a str> {
        let (word, rest) = self.0.split_once(' ').ok_or("a value that is cut short")?;
        self.0 = rest;
        Ok(word)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Read<T> {
        let word = self.word()?;
        word.parse()
            .map_err(|_| format!("`{word}` is no number here"))
    }

    fn time(&mut self) -> Read<Timestamp> {
        self.number().map(Timestamp::from_micros)
    }

    /// A text with its length in front.
    fn text(&mut self) -> Read<&'a str> {
        let length = self.number()?;
        let (text, rest) = self
            .0
            .split_at_checked(length)
            .ok_or("a value that is cut short")?;
        self.0 = rest;
        Ok(text)
    }

    fn json(&self) -> Read<Json> {
        json(self.0)
    }
}

fn json(text: &str) -> Read<Json> {
    Json::parse(text.to_owned()).map_err(|error| error.to_string())
}

/// `input-length input metadata`; without metadata that is null.
pub(crate) fn payload_bytes(payload: &Payload) -> Vec<u8> {
    let input = payload.input.as_str();
    let metadata = match payload.metadata.is_null() {
        true => "",
        false => payload.metadata.as_str(),
    };
    format!("{} {input}{metadata}", input.len()).into_bytes()
}

pub(crate) fn payload(bytes: &[u8]) -> Read<Payload> {
    let mut text = Text::new(bytes)?;
    Ok(Payload {
        input: json(text.text()?)?,
        metadata: match text.0 {
            "" => Json::null(),
            metadata => json(metadata)?,
        },
    })
}

/// `seq at visibility type-length type payload`.
pub(crate) fn event_bytes(seq: u64, event: &NewEvent, at: Timestamp) -> Vec<u8> {
    let kind = event.event_type.as_str();
    let visibility = match event.visibility {
        Visibility::Internal => 0,
        Visibility::Debug => 1,
        Visibility::User => 2,
    };
    let (at, length, payload) = (at.as_micros(), kind.len(), event.payload.as_str());
    format!("{seq} {at} {visibility} {length} {kind}{payload}").into_bytes()
}

pub(crate) fn event(run_id: RunId, bytes: &[u8]) -> Read<Event> {
    let mut text = Text::new(bytes)?;
    Ok(Event {
        run_id,
        seq: text.number()?,
        timestamp: text.time()?,
        visibility: match text.number()? {
            0 => Visibility::Internal,
            1 => Visibility::Debug,
            2 => Visibility::User,
            other => return Err(format!("visibility {other}")),
        },
        event_type: EventType::from(text.text()?),
        payload: text.json()?,
    })
}

/// `seq saved-at state`.
pub(crate) fn checkpoint_bytes(seq: u64, state: &Json, at: Timestamp) -> Vec<u8> {
    format!("{seq} {} {}", at.as_micros(), state.as_str()).into_bytes()
}

pub(crate) fn checkpoint(bytes: &[u8]) -> Read<Checkpoint> {
    let mut text = Text::new(bytes)?;
    Ok(Checkpoint {
        seq: text.number()?,
        saved_at: text.time()?,
        state: text.json()?,
    })
}

/// `at name-length name payload`; its number is the field.
pub(crate) fn signal_bytes(signal: &Signal) -> Vec<u8> {
    let (at, name) = (signal.received_at.as_micros(), &signal.name);
    format!("{at} {} {name}{}", name.len(), signal.payload.as_str()).into_bytes()
}

pub(crate) fn signal(id: u64, bytes: &[u8]) -> Read<Signal> {
    let mut text = Text::new(bytes)?;
    Ok(Signal {
        id,
        received_at: text.time()?,
        name: text.text()?.to_owned(),
        payload: text.json()?,
    })
}

/// `open failed`.
pub(crate) fn group_bytes(group: Group) -> Vec<u8> {
    format!("{} {} ", group.open, group.failed).into_bytes()
}

pub(crate) fn group(bytes: &[u8]) -> Read<Group> {
    let mut text = Text::new(bytes)?;
    Ok(Group {
        open: text.number()?,
        failed: text.number()?,
    })
}

/// `ordinal state kind input attempts started-at recorded-at body`; its key is the field. Scripts read the first two.
pub(crate) fn step_bytes(ordinal: u64, step: &StepRecord) -> Vec<u8> {
    let error;
    let (state, body) = match &step.outcome {
        StepOutcome::Started { memo } => (0, memo.as_str()),
        StepOutcome::Completed { result } => (1, result.as_str()),
        StepOutcome::Failed { error: told } => {
            // An error always has a JSON form.
            error = serde_json::to_string(told).unwrap_or_default();
            (2, error.as_str())
        }
    };
    let (kind, input, attempts) = (step.kind.as_str(), step.input.0, step.attempts);
    let (started, recorded) = (step.started_at.as_micros(), step.recorded_at.as_micros());
    format!("{ordinal} {state} {kind} {input} {attempts} {started} {recorded} {body}").into_bytes()
}

/// The ordinal and the step.
pub(crate) fn step(key: &[u8], bytes: &[u8]) -> Read<(u64, StepRecord)> {
    let mut text = Text::new(bytes)?;
    let ordinal = text.number()?;
    let state: u8 = text.number()?;
    let kind = text.word()?;
    let kind = step_kind(kind).ok_or_else(|| format!("step kind `{kind}`"))?;
    let input = Fingerprint(text.number()?);
    let attempts = text.number()?;
    let (started_at, recorded_at) = (text.time()?, text.time()?);
    let body = text.json()?;
    let outcome = match state {
        0 => StepOutcome::Started { memo: body },
        1 => StepOutcome::Completed { result: body },
        _ => StepOutcome::Failed {
            error: body.to().map_err(|error| error.to_string())?,
        },
    };
    let record = StepRecord {
        key: String::from_utf8(key.to_vec()).map_err(|_| "a step's key is not UTF-8")?,
        kind,
        input,
        outcome,
        attempts,
        started_at,
        recorded_at,
    };
    Ok((ordinal, record))
}

/// Ordinal, and whether the step has ended, from as much of it as a script returns.
pub(crate) fn step_head(bytes: &[u8]) -> Read<(u64, bool)> {
    let mut text = Text::new(bytes)?;
    Ok((text.number()?, text.number::<u8>()? != 0))
}

fn step_kind(text: &str) -> Option<StepKind> {
    const KINDS: [StepKind; 7] = [
        StepKind::Code,
        StepKind::Model,
        StepKind::Tool,
        StepKind::Sleep,
        StepKind::Signal,
        StepKind::Approval,
        StepKind::Delegate,
    ];
    KINDS.into_iter().find(|kind| kind.as_str() == text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use adjutant_core::ErrorInfo;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_001);

    #[test]
    fn what_is_stored_comes_back() {
        let run = RunId::new();
        let odd = Json::from("a b\n\"ü\" 3 ");
        for metadata in [Json::null(), odd.clone()] {
            let given = Payload {
                input: odd.clone(),
                metadata,
            };
            assert_eq!(payload(&payload_bytes(&given)), Ok(given));
        }
        let new = NewEvent::new("with space ü", odd.clone());
        let back = event(run, &event_bytes(7, &new, NOW)).unwrap();
        assert_eq!((back.seq, back.timestamp, &back.payload), (7, NOW, &odd));
        assert_eq!(
            (back.event_type, back.visibility),
            (new.event_type, new.visibility)
        );
        let saved = checkpoint(&checkpoint_bytes(3, &odd, NOW)).unwrap();
        assert_eq!(
            (saved.seq, saved.saved_at, saved.state),
            (3, NOW, odd.clone())
        );
        let sent = Signal {
            id: 2,
            name: "a 1 b".to_owned(),
            payload: odd,
            received_at: NOW,
        };
        assert_eq!(signal(2, &signal_bytes(&sent)), Ok(sent));
        let counted = Group { open: 3, failed: 1 };
        assert_eq!(group(&group_bytes(counted)).unwrap(), counted);
    }

    #[test]
    fn steps_come_back_whatever_came_of_them() {
        let odd = Json::from("a b\n");
        let error = ErrorInfo::permanent("k", "m");
        for outcome in [
            StepOutcome::Started { memo: odd.clone() },
            StepOutcome::Completed { result: odd },
            StepOutcome::Failed { error },
        ] {
            let record = StepRecord {
                key: "a key#2".to_owned(),
                kind: StepKind::Approval,
                input: Fingerprint(u64::MAX),
                outcome,
                attempts: 2,
                started_at: NOW,
                recorded_at: NOW,
            };
            let stored = step_bytes(9, &record);
            let ended = !matches!(record.outcome, StepOutcome::Started { .. });
            assert_eq!(step_head(&stored), Ok((9, ended)));
            assert_eq!(step(b"a key#2", &stored), Ok((9, record)));
        }
    }
}
