SELECT next_offset FROM cursors WHERE generation = $1 AND family = $2 AND partition = $3 AND NOT frozen FOR UPDATE
