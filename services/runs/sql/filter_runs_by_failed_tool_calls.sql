   AND (r.failed_tool_calls > 0) = $9
