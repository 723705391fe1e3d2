//! The ledger's contract through three handles, each call through another one of them: what holds for one process holds
//! for several.

use std::sync::Arc;

use adjutant_budget::conformance::Fixture;
use adjutant_store::conformance::ManualClock;

use crate::{
    ledgers::Ledgers,
    place::{Engine, Place},
};

async fn fixture(engine: Engine) -> Fixture {
    let clock = ManualClock::new();
    let place = Place::new(engine, 3, Some(Arc::new(clock.clone()))).await;
    let ledgers = place.handles.iter().map(|handle| handle.ledger());
    let hands = clock.clone();
    Fixture {
        ledger: Arc::new(Ledgers::new(ledgers.collect())),
        clock: Arc::new(clock),
        advance: Box::new(move |by| hands.advance(by)),
        keep: Box::new(place.keep),
    }
}

mod sqlite {
    use super::*;
    adjutant_budget::suite!(fixture(Engine::Sqlite));
}

mod postgres {
    use super::*;
    adjutant_budget::suite!(fixture(Engine::Postgres));
}

mod redis {
    use super::*;
    adjutant_budget::suite!(fixture(Engine::Redis));
}
