   AND NOT EXISTS (SELECT FROM unnest(($7::bytea[])[2:]) AS wanted (label)
                    WHERE NOT EXISTS (SELECT FROM run_labels l
                                       WHERE l.tenant_id = $1 AND l.mode = $2 AND l.label = wanted.label
                                         AND l.run_id = r.run_id))
