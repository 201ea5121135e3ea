//! A session against a cluster that does what it likes: every row gets one result, and the result is true.

use super::*;

/// A cluster that does whatever a real one may do to a client, as dice fall.
struct Model {
    dice: u64,
    leaders: BTreeMap<ShardId, u8>,
    /// Accounts that have left their home.
    owners: BTreeMap<AccountId, ShardId>,
    executed: BTreeMap<TransferId, u32>,
    connected: BTreeSet<ReplicaAddress>,
    /// On the way to a replica, and on the way back.
    requests: Vec<Outgoing>,
    replies: Vec<(ReplicaAddress, Reply)>,
    changes_told: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            dice: seed << 32,
            leaders: (1..=3).map(|shard| (ShardId(shard), 1)).collect(),
            owners: BTreeMap::new(),
            executed: BTreeMap::new(),
            connected: BTreeSet::new(),
            requests: Vec::new(),
            replies: Vec::new(),
            changes_told: 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.dice += 1;
        usize::try_from(splitmix64(self.dice) % u64::try_from(end).unwrap()).unwrap()
    }

    fn owner(&self, account: AccountId) -> ShardId {
        let home = topology().placement.home(account, 3);
        self.owners.get(&account).copied().unwrap_or(home)
    }

    /// A replica takes a request; its answer, if it gives one.
    fn execute(&mut self, outgoing: &Outgoing) -> ReplyBody {
        let shard = outgoing.to.shard;
        if self.leaders[&shard] != outgoing.to.replica.0 {
            let hint = (self.below(2) == 0).then_some(self.leaders[&shard]);
            return not_leader(hint, 1);
        }
        match self.below(12) {
            0 => return ReplyBody::Busy,
            1 => return ReplyBody::Unknown,
            _ => {}
        }
        let rows = match &outgoing.request.body {
            RequestBody::CreateTransfers(rows) => rows,
            RequestBody::MapChanges { place, .. } => return self.changes(shard, *place),
            other => panic!("the test never sends {other:?}"),
        };
        let rows: Vec<ResultRow> = rows
            .iter()
            .map(|row| self.execute_row(shard, row))
            .collect();
        results(&rows)
    }

    /// Where accounts went; some of it is wrong, as an old answer may be.
    fn changes(&mut self, shard: ShardId, place: MapPlace) -> ReplyBody {
        self.changes_told += 1;
        let owners: Vec<(AccountId, ShardId)> = self.owners.iter().map(|(&a, &s)| (a, s)).collect();
        let rows: Vec<RouteRow> = owners
            .into_iter()
            .filter(|(_, owner)| *owner != shard)
            .map(|(account, owner)| RouteRow {
                account,
                shard: if self.below(4) == 0 {
                    ShardId(4)
                } else {
                    owner
                },
                ownership_epoch: u32::try_from(1 + self.below(3)).unwrap(),
                epoch: place.epoch + 1,
                reserved: 0,
            })
            .collect();
        let next = MapPlace {
            epoch: place.epoch + 1,
            account: AccountId(u128::MAX),
        };
        ReplyBody::MapChanges {
            rows: Rows::from_slice(&rows),
            next,
            has_more: self.below(2) == 0,
        }
    }

    fn execute_row(&mut self, shard: ShardId, row: &Transfer) -> ResultRow {
        let owner = self.owner(row.debit_account_id);
        if owner != shard {
            return ResultRow::moved(owner);
        }
        if self.executed.contains_key(&row.id) {
            return ResultRow::logged(ResultCode::Exists, Timestamp(1));
        }
        match self.below(12) {
            0 => ResultRow::unlogged(ResultCode::Contended),
            1 => ResultRow::unlogged(ResultCode::Unknown),
            2 => {
                *self.executed.entry(row.id).or_default() += 1;
                ResultRow::unlogged(ResultCode::Unknown)
            }
            _ => {
                *self.executed.entry(row.id).or_default() += 1;
                ok()
            }
        }
    }

    /// One random event.
    fn step(&mut self, session: &mut Session, now_ns: u64) {
        match self.below(40) {
            0 => {
                let shard = ShardId(u32::try_from(1 + self.below(3)).unwrap());
                let leader = u8::try_from(1 + self.below(3)).unwrap();
                self.leaders.insert(shard, leader);
            }
            1 => {
                let first = u128::try_from(1 + self.below(300)).unwrap();
                let shard = ShardId(u32::try_from(1 + self.below(3)).unwrap());
                let batch = u128::try_from(1 + self.below(20)).unwrap();
                let accounts = (first..first + batch).map(AccountId);
                self.owners.extend(accounts.map(|account| (account, shard)));
            }
            2 => {
                let shard = u32::try_from(1 + self.below(3)).unwrap();
                let replica = at(shard, u8::try_from(1 + self.below(3)).unwrap());
                // Its replies are lost; its requests may or may not arrive.
                self.replies.retain(|(from, _)| *from != replica);
                self.connected.remove(&replica);
                session.on_disconnected(replica, now_ns);
            }
            3..=12 if !self.requests.is_empty() => {
                let index = self.below(self.requests.len());
                let outgoing = self.requests.swap_remove(index);
                let body = self.execute(&outgoing);
                if self.below(15) != 0 {
                    let reply = reply(outgoing.request.id, body);
                    self.replies.push((outgoing.to, reply));
                }
            }
            13..=22 if !self.replies.is_empty() => {
                let index = self.below(self.replies.len());
                let (from, reply) = self.replies.swap_remove(index);
                session.on_reply(from, reply, now_ns);
            }
            _ => {
                session.tick(now_ns);
                while let Some(outgoing) = session.poll_send(now_ns) {
                    if !self.connected.contains(&outgoing.to) && self.below(3) == 0 {
                        session.on_dial_failed(outgoing.to, now_ns);
                        continue;
                    }
                    self.connected.insert(outgoing.to);
                    if self.below(12) != 0 {
                        self.requests.push(outgoing);
                    }
                }
            }
        }
    }
}

/// What every result promises, whatever happens: success took effect once, "nothing was done" never
/// takes effect, not even by a request that is still on its way.
#[test]
fn every_row_gets_one_result_and_the_result_is_true() {
    let mut seen = BTreeMap::<&str, u32>::new();
    let mut changes_told = 0;
    for seed in 1..=300 {
        let mut model = Model::new(seed);
        let mut session = session();
        let mut now_ns = 0;
        let mut submitted = BTreeMap::new();
        let mut outcomes = BTreeMap::new();
        let mut next_id = 1;
        for _ in 0..1500 {
            if model.below(60) == 0 && submitted.len() < 12 {
                let rows: Vec<Transfer> = (0..model.below(20))
                    .map(|_| {
                        next_id += 1;
                        transfer(next_id, u128::try_from(1 + model.below(300)).unwrap())
                    })
                    .collect();
                let patience_ns = u64::try_from(1 + model.below(3000)).unwrap() * MS;
                let id = session.submit(transfers(&rows), now_ns + patience_ns);
                submitted.insert(id, rows);
            }
            model.step(&mut session, now_ns);
            now_ns += u64::try_from(model.below(10)).unwrap() * MS;
            while let Some((id, outcome)) = session.poll_done() {
                assert!(outcomes.insert(id, outcome).is_none(), "two outcomes");
            }
        }
        session.tick(now_ns + 10 * SECOND);
        while let Some((id, outcome)) = session.poll_done() {
            assert!(outcomes.insert(id, outcome).is_none(), "two outcomes");
        }
        assert!(session.is_idle());
        changes_told += model.changes_told;
        // What is still on its way arrives at last, at replicas that execute everything they may.
        let leaders = [1, 2, 3];
        for outgoing in std::mem::take(&mut model.requests) {
            for leader in leaders {
                model.leaders.insert(outgoing.to.shard, leader);
                model.execute(&outgoing);
            }
        }
        assert_eq!(outcomes.len(), submitted.len());
        for (id, rows) in submitted {
            let Some(Outcome::Results(completed)) = outcomes.remove(&id) else {
                panic!("{id:?} has no results");
            };
            assert_eq!(completed.rows.len(), rows.len());
            for (row, result) in rows.iter().zip(&completed.rows) {
                let code = result.result().unwrap();
                let executed = model.executed.get(&row.id).copied().unwrap_or(0);
                *seen.entry(code.name()).or_default() += 1;
                match code {
                    ResultCode::Unknown => assert!(executed <= 1),
                    code if code.is_success() => assert_eq!(executed, 1),
                    code => assert_eq!(executed, 0, "seed {seed}: {} but done", code.name()),
                }
            }
            let mut items: Vec<u32> = completed
                .parts
                .into_iter()
                .flat_map(|part| part.items)
                .collect();
            items.sort_unstable();
            let mut once = items.clone();
            once.dedup();
            assert_eq!(items, once, "a row is in two parts");
        }
    }
    // The test means something only if all kinds of ends occurred.
    for name in [
        "ok",
        "exists",
        "unknown",
        "contended",
        "busy",
        "not_leader",
        "moved",
    ] {
        assert!(seen.contains_key(name), "{name} never occurred: {seen:?}");
    }
    assert!(changes_told > 0, "no shard was asked what has left it");
}
