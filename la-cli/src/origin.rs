//! Where a run comes from: the command line that began it and the machine it began on.

use crate::output::counted;
use candle_core::Device;
use la_core::ops::device::gpu_memory;

/// The command line of this process, word by word, under the program's own name.
pub fn command_line() -> Vec<String> {
    std::iter::once("la-cli".to_string()).chain(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())).collect()
}

/// The GPU where one computes, the processor where the system tells, and how many threads compute.
pub fn machine(device: &Device) -> String {
    let threads = counted(rayon::current_num_threads(), "thread");
    let gpu = gpu_memory(device).map(|(_, name)| name);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().as_deref().and_then(cpu_model);
    gpu.into_iter().chain(cpu).chain([threads]).collect::<Vec<_>>().join(", ")
}

/// Linux' name of the first processor.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_that_of_the_first_core() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nprocessor\t: 1\nmodel name\t: Other\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(cpu_model("processor : 0\n"), None);
    }
}
