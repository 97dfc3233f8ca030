//! What the server's processes use, where they are on this machine, as `/proc` tells it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::param::clock_ticks_per_second;

/// The state of a socket that listens.
const LISTENS: &str = "0A";

/// Of all processes together, since they began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Microseconds of CPU.
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) resident_kib: u64,
}

/// What these processes use; `None` where one of them can't be looked at.
pub(crate) fn usage(pids: &[u32]) -> Option<Usage> {
    let mut sum = Usage::default();
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may have spaces and brackets in it.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let micros = 1e6 / clock_ticks_per_second() as f64;
        sum.user += ticks()? as f64 * micros;
        sum.system += ticks()? as f64 * micros;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident = resident.trim().trim_end_matches(" kB");
        sum.resident_kib += resident.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// The name of a process, for people.
pub(crate) fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    super::tally::shown(&name)
}

/// The processes that listen at this address, on this machine.
pub(crate) fn listeners(address: SocketAddr) -> Vec<u32> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(text.lines().filter_map(|line| listens(line, address)));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<u32> = numbers("/proc")
        .filter(|pid| {
            let files = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten();
            let links = files
                .flatten()
                .filter_map(|file| fs::read_link(file.path()).ok());
            links
                .into_iter()
                .any(|link| sockets.iter().any(|socket| link.as_os_str() == &**socket))
        })
        .collect();
    found.sort_unstable();
    found
}

fn numbers(folder: &str) -> impl Iterator<Item = u32> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.file_name().to_str()?.parse().ok())
}

/// How `/proc/PID/fd` names the socket of a line of `/proc/net/tcp`, if it listens at this address.
fn listens(line: &str, address: SocketAddr) -> Option<String> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let [_, local, _, LISTENS, _, _, _, _, _, inode, ..] = *fields else {
        return None;
    };
    let (ip, port) = local.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    let at = read_ip(ip)?.to_canonical();
    (at.is_unspecified() || at == address.ip().to_canonical()).then(|| format!("socket:[{inode}]"))
}

/// 32 bits at a time, in the order of this machine.
fn read_ip(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if digits.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    let bytes: [u8; 16] = words.concat().try_into().ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_is_found_by_what_it_listens_at() {
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(at) else {
                continue;
            };
            let mut address = listener.local_addr().unwrap();
            if address.ip().is_unspecified() {
                address.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            assert_eq!(listeners(address), [std::process::id()], "{at}");
            address.set_ip(Ipv4Addr::new(127, 9, 9, 9).into());
            let everywhere = !at.starts_with("127") && at != "[::1]:0";
            assert_eq!(!listeners(address).is_empty(), everywhere, "{at}");
        }
    }

    #[test]
    fn what_this_process_uses_is_told_and_of_none_nothing() {
        let usage = usage(&[std::process::id()]).unwrap();
        assert!(usage.resident_kib > 100, "{usage:?}");
        assert!(super::usage(&[u32::MAX]).is_none());
    }
}
