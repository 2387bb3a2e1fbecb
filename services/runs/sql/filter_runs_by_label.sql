   AND EXISTS (SELECT FROM run_labels l
                WHERE l.tenant_id = $1 AND l.mode = $2 AND l.label = ($7::bytea[])[1] AND l.run_id = r.run_id)
