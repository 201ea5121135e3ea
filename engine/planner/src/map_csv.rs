//! `map.csv`: header `account,shard`, one row per account that a plan places, by account id.

use std::collections::BTreeMap;
use std::io::{self, Write};

use quorate_protocol::ids::{AccountId, ShardId};

/// Writes the map. Accounts that are not in it stay at the default placement.
///
/// # Errors
/// Those of `output`.
pub fn write(map: &BTreeMap<AccountId, ShardId>, mut output: impl Write) -> io::Result<()> {
    writeln!(output, "account,shard")?;
    for (account, shard) in map {
        writeln!(output, "{account},{shard}")?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_header_by_account_id() {
        let map = [(u128::MAX, 1), (7, 3), (10, 2)];
        let map = map.map(|(id, shard)| (AccountId(id), ShardId(shard)));
        let mut bytes = Vec::new();
        write(&map.into_iter().collect(), &mut bytes).unwrap();
        let rows = format!("account,shard\n7,3\n10,2\n{},1\n", u128::MAX);
        assert_eq!(String::from_utf8(bytes).unwrap(), rows);
    }
}
