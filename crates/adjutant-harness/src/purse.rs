//! Who pays for a run's calls, and whether there is room.

use std::{sync::Arc, time::Duration};

use adjutant_budget::{
    Account, Amount, BudgetLedger, Caps, Claim, Refusal, ReservationKey, Reserve, Reserved, Warning,
};
use adjutant_core::{AgentError, AgentKey, ErrorInfo, Json, Lineage, RunId};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::policy::{BudgetPolicy, Spend};

/// How long a call waits for others on their way to settle, when it lacks room only because of what they have reserved.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(30);

/// How often it looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The accounts of one attempt.
pub(crate) struct Purse {
    ledger: Arc<dyn BudgetLedger>,
    policy: BudgetPolicy,
    run: RunId,
    epoch: u64,
    agent: AgentKey,
    tenant: Option<String>,
    lineage: Lineage,
    /// The bounds of the tree, which its first run has set.
    tree: OnceCell<Caps>,
}

/// A reservation that has been granted.
#[derive(Debug)]
pub(crate) struct Held {
    key: ReservationKey,
    pub amount: Amount,
    pub warnings: Vec<Warning>,
}

/// Why a call may not be made.
pub(crate) enum Shortage {
    /// No room.
    Refused(Refusal),
    /// The ledger failed.
    Broken(AgentError),
}

impl Purse {
    pub fn new(
        ledger: Arc<dyn BudgetLedger>,
        policy: BudgetPolicy,
        (run, epoch): (RunId, u64),
        agent: AgentKey,
        metadata: &Json,
    ) -> Self {
        #[derive(serde::Deserialize)]
        struct Named {
            tenant: String,
        }
        Self {
            ledger,
            policy,
            run,
            epoch,
            agent,
            tenant: metadata.to::<Named>().ok().map(|named| named.tenant),
            lineage: Lineage::of(run, metadata),
            tree: OnceCell::new(),
        }
    }

    /// Reserves this for a step; nothing where nobody has a budget.
    pub async fn reserve(&self, step: &str, amount: Amount) -> Result<Option<Held>, Shortage> {
        let claims = self.claims().await.map_err(broken)?;
        if claims.is_empty() {
            return Ok(None);
        }
        let key = ReservationKey::step(self.run, self.epoch, step).map_err(broken)?;
        let until = tokio::time::Instant::now() + WAIT_FOR_ROOM;
        loop {
            let reserve = Reserve {
                key: key.clone(),
                run: self.run,
                claims: claims.clone(),
                amount,
            };
            match self.ledger.reserve(reserve).await.map_err(broken)? {
                Reserved::Granted { warnings } => {
                    return Ok(Some(Held {
                        key,
                        amount,
                        warnings,
                    }));
                }
                Reserved::Refused(refusal) => {
                    let hopeless = refusal.spent.saturating_add(refusal.asked) > refusal.cap;
                    if hopeless || tokio::time::Instant::now() >= until {
                        return Err(Shortage::Refused(refusal));
                    }
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Settles what earlier attempts have reserved and not settled: calls that were lost with their worker. Nobody knows
    /// whether they were made, so they count in full.
    pub async fn settle_lost(&self) -> Result<(), AgentError> {
        if self.epoch <= 1 || self.claims().await?.is_empty() {
            return Ok(());
        }
        for lost in self.ledger.open(self.run).await? {
            if epoch_of(&lost.key).is_some_and(|epoch| epoch < self.epoch) {
                self.ledger.settle(&lost.key, lost.amount).await?;
            }
        }
        Ok(())
    }

    /// Says what a reservation came to.
    pub async fn settle(&self, held: &Held, actual: Amount) -> Result<Vec<Warning>, AgentError> {
        Ok(self.ledger.settle(&held.key, actual).await?)
    }

    async fn claims(&self) -> Result<Vec<Claim>, adjutant_core::Error> {
        let mut claims = Vec::new();
        let mut claim = |account: Account, spend: Spend| {
            let caps = spend.caps();
            if caps.iter().next().is_some() {
                let claim = Claim {
                    warn_percent: Some(self.policy.warn_percent.clamp(1, 100)),
                    ..Claim::new(account, caps)
                };
                claims.push(match spend.per {
                    Some(period) => claim.per(period),
                    None => claim,
                });
            }
        };
        claim(Account::run(self.run), self.policy.run);
        claim(Account::agent(&self.agent)?, self.policy.agent);
        if let Some(tenant) = &self.tenant {
            claim(Account::tenant(tenant)?, self.policy.tenant);
        }
        let tree = self.tree().await?;
        if tree.iter().next().is_some() {
            claims.push(Claim {
                warn_percent: Some(self.policy.warn_percent.clamp(1, 100)),
                ..Claim::new(Account::tree(self.lineage.root), tree)
            });
        }
        Ok(claims)
    }

    /// The bounds of the whole tree: the first run's own, which the others find in the ledger, since it has paid there for
    /// beginning them.
    async fn tree(&self) -> Result<Caps, adjutant_core::Error> {
        if self.lineage.depth == 0 {
            return Ok(self.policy.tree.caps());
        }
        let find = || async {
            let account = Account::tree(self.lineage.root);
            let balance = self.ledger.balance(&account).await?;
            Ok(balance.map(|balance| balance.caps).unwrap_or_default())
        };
        self.tree.get_or_try_init(find).await.copied()
    }
}

/// The lease under which a reservation was made: the second part of its name.
fn epoch_of(key: &ReservationKey) -> Option<u64> {
    key.as_str().split('/').nth(1)?.parse().ok()
}

fn broken(error: adjutant_core::Error) -> Shortage {
    Shortage::Broken(error.into())
}

/// A refusal as the agent and the run's record see it.
pub(crate) fn exceeded(refusal: &Refusal) -> AgentError {
    let hint = format!("`agent budgets show {}` tells more", refusal.account);
    let info = ErrorInfo::permanent("budget_exceeded", format!("{refusal}; {hint}"));
    AgentError::from(info.with_details(json!({ "refusal": refusal })))
}
