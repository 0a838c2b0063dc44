//! Images that are derived from a vendor's AMI, in an EC2 on this machine (see `tests/aws/`): what is asked of it, what is
//! refused, and that nothing stays whatever happens.

mod killed;
mod launched;
mod refused;
mod site;
mod whole;
