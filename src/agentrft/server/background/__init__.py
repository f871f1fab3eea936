"""Work that goes on beside the answers for as long as the server runs: deleting what expired, sending webhooks."""
