-- How many of the tenant could approve, as the directory knows them.
SELECT directory.count_approvers($1, $2, $3)
