-- What was to be tried in a partition waits: takes one attempt at it back.
UPDATE attempts SET attempts = attempts - 1 WHERE family = $1 AND partition = $2
