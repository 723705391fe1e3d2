//! What is asked of the ledger, and what it answers.

use std::{collections::HashSet, fmt};

use adjutant_core::{Error, Result, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Account, Amount, Caps, Figure, Period};

/// The most accounts of one reservation.
pub const MOST_CLAIMS: usize = 16;

/// The name of a reservation: whoever asks twice under one name asks once. One that was settled is used up, so every
/// try of a call has its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReservationKey(String);

impl ReservationKey {
    /// The longest name, in bytes.
    pub const LONGEST: usize = 1000;

    /// A reservation of any name: 1 to [`ReservationKey::LONGEST`] bytes without control characters.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.len() > Self::LONGEST || name.chars().any(char::is_control) {
            let problem = format!(
                "must be 1 to {} bytes without control characters",
                Self::LONGEST
            );
            return Err(Error::Invalid {
                field: "reservation",
                problem,
            });
        }
        Ok(Self(name))
    }

    /// The reservation for a step of a run, as it is tried under one lease. What cannot be printed is escaped.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the key of a step that does not fit.
    pub fn step(run: RunId, epoch: u64, step: &str) -> Result<Self> {
        let mut name = format!("{run}/{epoch}/");
        for c in step.chars() {
            match c.is_control() {
                true => name.extend(c.escape_unicode()),
                false => name.push(c),
            }
        }
        Self::new(name)
    }

    /// What [`ReservationKey::step`] has made of the step's key.
    #[must_use]
    pub fn step_key(&self) -> Option<&str> {
        self.0.splitn(3, '/').nth(2)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ReservationKey {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<ReservationKey> for String {
    fn from(key: ReservationKey) -> Self {
        key.0
    }
}

/// An account that has to have room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which one. With a period, its account of the present one.
    pub account: Account,
    /// The most that may be spent and reserved there, this claim included.
    pub caps: Caps,
    /// After which it starts anew, if it does.
    pub period: Option<Period>,
    /// From how many percent of a cap on to warn, 1 to 100; `None` for never. Default 80.
    pub warn_percent: Option<u8>,
}

impl Claim {
    /// A claim on an account that never starts anew, with a warning at four fifths.
    #[must_use]
    pub fn new(account: Account, caps: Caps) -> Self {
        Self {
            account,
            caps,
            period: None,
            warn_percent: Some(80),
        }
    }

    /// The same on the account of the present period.
    #[must_use]
    pub fn per(mut self, period: Period) -> Self {
        self.period = Some(period);
        self
    }
}

/// Something that is about to be spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Its name.
    pub key: ReservationKey,
    /// Who is going to settle it.
    pub run: RunId,
    /// The accounts that pay, each in full.
    pub claims: Vec<Claim>,
    /// The most that it is going to be.
    pub amount: Amount,
}

impl Reserve {
    /// Checks everything that can be checked without the ledger.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field.
    pub fn check(&self) -> Result<()> {
        let mut seen = HashSet::new();
        let twice = self
            .claims
            .iter()
            .find(|claim| !seen.insert((&claim.account, claim.period)));
        let room = Account::LONGEST - Account::SUFFIX;
        let long = |claim: &Claim| claim.period.is_some() && claim.account.as_str().len() > room;
        let percent = |claim: &Claim| claim.warn_percent.is_none_or(|p| (1..=100).contains(&p));
        let (field, problem) = if self.claims.len() > MOST_CLAIMS {
            ("claims", format!("must be at most {MOST_CLAIMS}"))
        } else if let Some(claim) = twice {
            ("claims", format!("must name {} once", claim.account))
        } else if self.claims.iter().any(long) {
            (
                "account",
                format!("must be at most {room} bytes with a period"),
            )
        } else if !self.claims.iter().all(percent) {
            ("warn_percent", "must lie between 1 and 100".to_owned())
        } else {
            return Ok(());
        };
        Err(Error::Invalid { field, problem })
    }
}

/// The answer to a [`Reserve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// It may be spent, and has to be settled.
    Granted {
        /// Thresholds that were reached with it.
        warnings: Vec<Warning>,
    },
    /// There is no room, and nothing has changed.
    Refused(Refusal),
}

impl Reserved {
    /// Whether it may be spent.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }
}

/// A threshold that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Where.
    pub account: Account,
    /// Of which figure.
    pub what: Figure,
    /// Spent and reserved by now.
    pub used: u64,
    /// Its bound.
    pub cap: u64,
}

/// Why something may not be spent: the first account and figure without room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Where.
    pub account: Account,
    /// Of which figure.
    pub what: Figure,
    /// Spent already.
    pub spent: u64,
    /// Reserved by calls that are not settled. If this is not 0, there may be room when they are.
    pub reserved: u64,
    /// Its bound.
    pub cap: u64,
    /// What was asked for.
    pub asked: u64,
    /// When the account starts anew, if it does.
    pub until: Option<Timestamp>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            account,
            what,
            spent,
            reserved,
            cap,
            asked,
            ..
        } = self;
        write!(
            f,
            "budget of {account}: {asked} {what} asked for, {spent} spent and {reserved} reserved of {cap}"
        )
    }
}
