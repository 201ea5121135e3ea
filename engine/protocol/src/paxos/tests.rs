//! Tests of the consensus core: stories of one replica, stories of a group, random worlds.

mod acceptor_stories;
mod candidate_stories;
mod catch_up_stories;
mod disk;
mod group_stories;
mod hand;
mod leader_stories;
mod lost_stories;
mod random;
mod rejoin_stories;
mod world;
