//! Full names of the messages that a record's payload may be. A name, once used, is kept for ever.

macro_rules! types {
    ($($name:ident = $full:literal),+ $(,)?) => {
        $(pub const $name: &str = $full;)+

        /// Every type this version writes.
        pub const ALL: &[&str] = &[$($full),+];
    };
}

types! {
    GENESIS = "runledger.log.v1.Genesis",
    COMMAND_REJECTED = "runledger.log.v1.CommandRejected",
    REQUEST_TOOL_CALL = "runledger.approval.v1.RequestToolCall",
    DECIDE_APPROVAL = "runledger.approval.v1.DecideApproval",
    CONFIRM_EXECUTION = "runledger.approval.v1.ConfirmExecution",
    TOOL_CALL_DECIDED = "runledger.approval.v1.ToolCallDecided",
    APPROVAL_VOTED = "runledger.approval.v1.ApprovalVoted",
    APPROVAL_CLOSED = "runledger.approval.v1.ApprovalClosed",
    EXECUTION_CONFIRMED = "runledger.approval.v1.ExecutionConfirmed",
    RECORD_SKIPPED = "runledger.log.v1.RecordSkipped",
    RUN_STARTED = "runledger.run.v1.RunStarted",
    RUN_PROGRESSED = "runledger.run.v1.RunProgressed",
    RUN_ENDED = "runledger.run.v1.RunEnded",
    STEP_STARTED = "runledger.run.v1.StepStarted",
    STEP_ENDED = "runledger.run.v1.StepEnded",
    TOOL_CALL_STARTED = "runledger.run.v1.ToolCallStarted",
    TOOL_CALL_ENDED = "runledger.run.v1.ToolCallEnded",
    USAGE_RECORDED = "runledger.run.v1.UsageRecorded",
    OCCURRENCE_RECORDED = "runledger.schedule.v1.OccurrenceRecorded",
    MESSAGE_RECORDED = "runledger.message.v1.MessageRecorded",
    CREATE_POLICY = "runledger.policy.v1.CreatePolicy",
    UPDATE_POLICY = "runledger.policy.v1.UpdatePolicy",
    SET_POLICY_ENABLED = "runledger.policy.v1.SetPolicyEnabled",
    DELETE_POLICY = "runledger.policy.v1.DeletePolicy",
    POLICY_CHANGED = "runledger.policy.v1.PolicyChanged",
    PUBLISH_PRICES = "runledger.price.v1.PublishPrices",
    PRICES_PUBLISHED = "runledger.price.v1.PricesPublished",
    GRANT_CREDITS = "runledger.billing.v1.GrantCredits",
    GRANT_RECURRING_CREDITS = "runledger.billing.v1.GrantRecurringCredits",
    VOID_GRANT = "runledger.billing.v1.VoidGrant",
    ADJUST_CREDITS = "runledger.billing.v1.AdjustCredits",
    REFUND_CREDITS = "runledger.billing.v1.RefundCredits",
    WRITE_OFF_CREDITS = "runledger.billing.v1.WriteOffCredits",
    RESERVE_CREDITS = "runledger.billing.v1.ReserveCredits",
    EXTEND_HOLD = "runledger.billing.v1.ExtendHold",
    SETTLE_HOLD = "runledger.billing.v1.SettleHold",
    RELEASE_HOLD = "runledger.billing.v1.ReleaseHold",
    SET_SPEND_LIMITS = "runledger.billing.v1.SetSpendLimits",
    SET_TIME_ZONE = "runledger.billing.v1.SetTimeZone",
    SET_THRESHOLDS = "runledger.billing.v1.SetThresholds",
    USAGE_FORWARDED = "runledger.billing.v1.UsageForwarded",
    ACCOUNT_POSTED = "runledger.billing.v1.AccountPosted",
    DIRECTORY_CHANGED = "runledger.directory.v1.Changed",
}
