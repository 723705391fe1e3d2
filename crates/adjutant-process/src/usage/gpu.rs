//! Memory on NVIDIA's graphics processors, as their management library tells it.

use nvml_wrapper::{Nvml, enums::device::UsedGpuMemory};

/// The management library, loaded.
#[derive(Debug)]
pub(super) struct Gpu {
    nvml: Nvml,
}

impl Gpu {
    /// Loads the library; `None` where there is none, which is usual.
    pub(super) fn find() -> Option<Self> {
        match Nvml::init() {
            Ok(nvml) => Some(Self { nvml }),
            Err(error) => {
                tracing::debug!(%error, "no graphics processor can be asked for its memory");
                None
            }
        }
    }

    /// Bytes that these processes use on all processors; `None` when none can be asked.
    pub(super) fn memory_of(&self, pids: &[i32]) -> Option<u64> {
        let count = self.nvml.device_count().ok()?;
        let devices = (0..count).filter_map(|index| self.nvml.device_by_index(index).ok());
        let mut told = None;
        for device in devices {
            let compute = device.running_compute_processes().unwrap_or_default();
            let graphics = device.running_graphics_processes().unwrap_or_default();
            let own = compute
                .into_iter()
                .chain(graphics)
                .filter(|process| pids.contains(&process.pid.cast_signed()));
            let bytes: u64 = own
                .filter_map(|process| match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                })
                .sum();
            *told.get_or_insert(0) += bytes;
        }
        told
    }
}
