//! A tar's header, as far as one is written.

use tar::Header;

/// Longest name, and longest target of a link, that a header holds, in bytes.
pub(crate) const MAX_NAME: usize = 100;
/// Longest folder in front of a name that a USTAR header holds, in bytes.
const MAX_PREFIX: usize = 155;

/// Writes a name into its header, where USTAR can hold it: ASCII, at most 100 bytes after at most 155 of folders.
pub(crate) fn place(header: &mut Header, name: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else { return false };
    let (prefix, rest) = if name.len() <= MAX_NAME {
        (&b""[..], name)
    } else {
        let head = &name[..name.len().min(MAX_PREFIX + 1)];
        let Some(slash) = head.iter().rposition(|byte| *byte == b'/') else { return false };
        (&name[..slash], &name[slash + 1..])
    };
    if !name.is_ascii() || rest.is_empty() || rest.len() > MAX_NAME {
        return false;
    }
    ustar.prefix[..prefix.len()].copy_from_slice(prefix);
    ustar.name[..rest.len()].copy_from_slice(rest);
    true
}
