"""From a create request to a job that can run: fields, hosts, data files and graders are looked at here."""
