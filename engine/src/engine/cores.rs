//! Which cores there are, and which of them a shard gets.

/// Which cores the shards run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CoreSet {
    /// Wherever the scheduler likes.
    #[default]
    Any,
    /// Shard n on the nth of the cores that this process may use (modulo their number).
    Pinned,
    /// Shard n on the nth of these cores (modulo their number).
    List(Vec<usize>),
}

pub(super) fn core_for(cores: &CoreSet, shard: usize) -> Option<usize> {
    match cores {
        CoreSet::Any => None,
        CoreSet::Pinned => {
            let allowed = allowed_cores();
            (!allowed.is_empty()).then(|| allowed[shard % allowed.len()])
        }
        CoreSet::List(list) if list.is_empty() => None,
        CoreSet::List(list) => Some(list[shard % list.len()]),
    }
}

/// The cores that this process may use, from procfs; none if that cannot be read.
pub(super) fn allowed_cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    parse_cores(list.trim())
}

/// `0-3,8` in the kernel's way of writing it.
fn parse_cores(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse::<usize>().ok()?..=to.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cores("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_cores("1"), [1]);
        assert_eq!(parse_cores(""), [0usize; 0]);
        assert!(!allowed_cores().is_empty());
    }
}
