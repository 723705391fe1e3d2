//! Models, tools, budgets and traces for agents: from what manifests and settings say to what the harness takes.

mod artifacts;
pub mod blocks;
pub mod file;
mod outfit;

pub use self::{
    blocks::Blocks,
    file::EquipmentFile,
    outfit::{Keys, Outfit, Outfitter, pool_of, router},
};
