// store_suite -- tests of the suite for stores itself: a right store passes, and one with any mistake is found out.
#include "memory_store.hpp"
#include "store_conformance.hpp"

using namespace test::stores;
using test::MemoryPlace;
using test::MemoryStore;

namespace {

template <class Kind = MemoryStore>
class InMemory : public StorePlace {
public:
    explicit InMemory(bool one_leader = true) { shared_->one_leader = one_leader; }
    std::unique_ptr<Store> open() override { return std::make_unique<Kind>(shared_); }
    bool one_leader() const override { return shared_->one_leader; }

private:
    std::shared_ptr<MemoryPlace> shared_ = std::make_shared<MemoryPlace>();
};

std::unique_ptr<StorePlace> led_by_one() { return std::make_unique<InMemory<>>(); }
std::unique_ptr<StorePlace> led_by_all() { return std::make_unique<InMemory<>>(false); }

// Whether any of the promises is broken by the mistake.
template <class Kind>
bool found(const std::vector<Promise>& promises) {
    long_enough = 300ms;
    const bool out = std::ranges::any_of(promises, [](const Promise& promise) {
        return !broken(promise, [] { return std::make_unique<InMemory<Kind>>(); }).empty();
    });
    long_enough = 60s;
    return out;
}

// ---- one mistake each ----

std::string cut(const std::string& text) { return text.c_str(); }

struct Mistaken : MemoryStore {
    using MemoryStore::MemoryStore;
    // What is put, and noticed, is not what was given.
    virtual QueuedMail spoilt(const QueuedMail& mail) { return mail; }
    void put(const QueuedMail& mail) override { MemoryStore::put(spoilt(mail)); }
};

#define SPOILS(Name, ...)                                    \
    struct Name : Mistaken {                                 \
        using Mistaken::Mistaken;                            \
        QueuedMail spoilt(const QueuedMail& mail) override { \
            auto m = mail;                                   \
            __VA_ARGS__;                                     \
            return m;                                        \
        }                                                    \
    }

SPOILS(LosesOneOfMany, if (m.to.size() > 999) m.to.pop_back());
SPOILS(LosesDuplicates, m.to.erase(std::unique(m.to.begin(), m.to.end(), same_mailbox), m.to.end()));
SPOILS(CutsTextAtNul, m.text = Message(cut(std::string(m.text.view()))));
SPOILS(CutsHeadAtNul, m.head = cut(m.head));
SPOILS(CutsEnvidAtNul, if (m.from.envid) m.from.envid = cut(*m.from.envid));
SPOILS(CutsOrcptAtNul, for (auto& to : m.to) if (to.orcpt) to.orcpt->address = cut(to.orcpt->address));
SPOILS(LosesEmptyAuth, if (m.from.auth == "") m.from.auth.reset());
SPOILS(LosesRet, m.from.ret = Return::unsaid);
SPOILS(LosesBodyType, m.from.body = BodyType::seven_bit);
SPOILS(LosesUtf8, m.from.smtputf8 = false);
SPOILS(LosesNever, for (auto& to : m.to) to.notify.never = false);
SPOILS(LosesDelay, for (auto& to : m.to) to.notify.delay = false);
SPOILS(LosesOrcptType, for (auto& to : m.to) if (to.orcpt) to.orcpt->type = "rfc822");
SPOILS(LowersSender, m.from.domain = lower_case(m.from.domain));
SPOILS(LowersRecipient, for (auto& to : m.to) to.domain = lower_case(to.domain));
SPOILS(CutsLargeBodies, if (m.text.size() > 262'144) m.text = Message(std::string(m.text.view().substr(0, 262'144))));
SPOILS(KeepsSeconds, m.due = std::chrono::floor<std::chrono::seconds>(m.due));
SPOILS(LosesArrival, m.arrived = queue_now());
SPOILS(LosesHold, m.held = false);
SPOILS(LosesHead, m.head.clear());
SPOILS(MixesCaseOfIds, m.id = lower_case(m.id));
SPOILS(CutsIds, if (m.id.size() > 64) m.id.resize(64));

struct TakesAnyId : Mistaken {
    using Mistaken::Mistaken;
    void put(const QueuedMail& mail) override {
        try {
            MemoryStore::put(mail);
        } catch (const std::invalid_argument&) {
        }
    }
};

struct ReplacesTakenId : Mistaken {
    using Mistaken::Mistaken;
    void put(const QueuedMail& mail) override {
        (void)cancel(mail.id);
        MemoryStore::put(mail);
    }
};

struct GivesOutTwice : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        const auto out = MemoryStore::claim(domain, now, limit, together);
        for (const auto& task : out) give_back(task);
        return out;
    }
};

struct GivesOutMore : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        return MemoryStore::claim(domain, now, limit + 1, together);
    }
};

struct GivesOutEarly : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        return MemoryStore::claim(domain, now + 10ms, limit, together);
    }
};

struct GivesOutLastFirst : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        auto out = MemoryStore::claim(domain, now, limit, together);
        std::ranges::reverse(out);
        return out;
    }
};

struct GivesOutApart : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        std::vector<QueueTask> out;
        for (const auto& task : MemoryStore::claim(domain, now, limit, together))
            for (const auto& to : task.to) {
                out.push_back(task);
                out.back().to = {to};
            }
        return out;
    }
};

struct GivesOutHeld : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        std::vector<std::string> held;
        for (const auto& item : items(0, 1000))
            if (item.held && release(item.id)) held.push_back(item.id);
        const auto out = MemoryStore::claim(domain, now, limit, together);
        for (const auto& id : held) (void)hold(id);
        return out;
    }
};

struct GivesOutNoOthers : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit, std::size_t) override {
        return MemoryStore::claim(domain, now, limit);
    }
};

struct GivesOutAllOthers : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together) override {
        return MemoryStore::claim(domain, now, limit, together == 0 ? 0 : 1000);
    }
};

struct TrustsTheClock : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override {
        auto out = MemoryStore::claim(domain, now, limit, together);
        std::erase_if(out, [&](const QueueTask& task) {
            if (item(task.id)->to.front().due <= now + longest_wait) return false;
            give_back(task);
            return true;
        });
        return out;
    }
};

struct ForgetsWhoHasIt : Mistaken {
    using Mistaken::Mistaken;
    bool lead() override {
        const std::lock_guard lock(place_->mutex);
        for (auto& [number, mail] : place_->mails)
            for (auto& to : mail.to)
                if (to.owner != 0) free(number, mail, to);
        return true;
    }
};

struct LeadsAlways : Mistaken {
    using Mistaken::Mistaken;
    bool lead() override { return true; }
};

struct DiesWithItsMail : Mistaken {
    using Mistaken::Mistaken;
    ~DiesWithItsMail() override { self_ = 0; }
};

struct GivesBackAll : Mistaken {
    using Mistaken::Mistaken;
    void give_back(const QueueTask& task) override {
        auto all = task;
        all.to.clear();
        for (std::uint32_t i = 0; i < 10; ++i) {
            all.to.emplace_back();
            all.to.back().number = i;
        }
        MemoryStore::give_back(all);
    }
};

struct GivesNothingBack : Mistaken {
    using Mistaken::Mistaken;
    void give_back(const QueueTask&) override {}
};

// record() with one thing changed.
#define RECORDS(Name, ...)                                                     \
    struct Name : Mistaken {                                                   \
        using Mistaken::Mistaken;                                              \
        bool record(const QueueTask& task, std::span<const QueueVerdict> said, \
                    std::span<const QueuedMail> notices) override {            \
            std::vector<QueueVerdict> verdicts(said.begin(), said.end());      \
            __VA_ARGS__;                                                       \
            return MemoryStore::record(task, verdicts, notices);               \
        }                                                                      \
    }

RECORDS(RecordsNoticesFirst, for (const auto& n : notices) put(n); notices = {});
RECORDS(RecordsVerdictsFirst, if (!MemoryStore::record(task, verdicts, {})) return false; verdicts.clear());
RECORDS(LosesNotices, notices = {});
RECORDS(RecordsOneOnly, verdicts.resize(1));
RECORDS(CountsEveryAttempt, for (auto& v : verdicts) v.attempt = true);
RECORDS(CountsNoAttempt, for (auto& v : verdicts) v.attempt = false);
RECORDS(LosesWarned, for (auto& v : verdicts) v.warned = false);
RECORDS(LosesReply, for (auto& v : verdicts) v.reply = {});
RECORDS(LosesHost, for (auto& v : verdicts) v.host.clear());
RECORDS(CutsReplyAtNul, for (auto& v : verdicts) v.reply.text = cut(v.reply.text));
RECORDS(NeverDone, for (auto& v : verdicts) v.done = false);
RECORDS(AllDone, for (auto& v : verdicts) v.done = true);
RECORDS(RetriesAtOnce, for (auto& v : verdicts) v.due = queue_now());
RECORDS(FreesTheRest, for (auto to
                           : task.to) if (std::ranges::find(verdicts, to.number, &QueueVerdict::number) ==
                                          verdicts.end()) MemoryStore::give_back(task));
RECORDS(SaysAlwaysTrue, (void)MemoryStore::record(task, verdicts, notices); return true);

struct KeepsWholeReplies : Mistaken {
    using Mistaken::Mistaken;
    std::optional<QueueItem> item(const std::string& id) override {
        auto out = MemoryStore::item(id);
        if (out)
            for (auto& to : out->to) to.last.text += std::string(to.last.text.size() > 1000 ? 1000 : 0, 'x');
        return out;
    }
};

struct FlushesHeld : Mistaken {
    using Mistaken::Mistaken;
    std::uint64_t flush(const std::string& id) override {
        (void)release(id);
        return MemoryStore::flush(id);
    }
};

struct FlushesAllForOne : Mistaken {
    using Mistaken::Mistaken;
    std::uint64_t flush_domain(const std::string&) override { return flush_all(); }
};

struct CancelsInFlight : Mistaken {
    using Mistaken::Mistaken;
    Cancelled cancel(const std::string& id) override {
        const auto out = MemoryStore::cancel(id);
        return out == Cancelled::in_flight ? Cancelled::not_found : out;
    }
};

struct CancelsNotAtAll : Mistaken {
    using Mistaken::Mistaken;
    Cancelled cancel(const std::string& id) override { return item(id) ? Cancelled::found : Cancelled::not_found; }
};

struct SkipsAPage : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueItem> items(std::int64_t after, std::size_t limit) override {
        return MemoryStore::items(after + (after > 0), limit);
    }
};

struct ComparesWithoutOrder : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueDomain> domains(const std::optional<std::string>& after, std::size_t limit) override {
        auto out = MemoryStore::domains(after, limit);
        const auto letters = [](const QueueDomain& d) {
            auto only = d.name;
            std::erase(only, '-');
            return only;
        };
        std::ranges::sort(out, {}, letters);
        return out;
    }
};

struct BeginsAgainAtEmpty : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueDomain> domains(const std::optional<std::string>& after, std::size_t limit) override {
        return MemoryStore::domains(after == "" ? std::nullopt : after, limit);
    }
};

struct NoticesNothing : Mistaken {
    using Mistaken::Mistaken;
    bool changed() override { return false; }
};

struct NoticesAlways : Mistaken {
    using Mistaken::Mistaken;
    bool changed() override { return true; }
};

struct GivesOutTheSendersOwn : Mistaken {
    using Mistaken::Mistaken;
    void put(const QueuedMail& mail) override {
        MemoryStore::put(mail);
        kept = mail.text;
    }
    Message text(const QueueTask&) override { return kept; }
    Message kept;
};

struct CutsTextsAhead : Mistaken {
    using Mistaken::Mistaken;
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together) override {
        auto out = MemoryStore::claim(domain, now, limit, together);
        for (auto& task : out) task.text = std::make_shared<const std::string>(cut(std::string(text(task).view())));
        return out;
    }
};

struct PutsInTwoSteps : Mistaken {
    using Mistaken::Mistaken;
    void put(const QueuedMail& mail) override {
        if (item(mail.id)) throw std::invalid_argument("it is there");
        std::this_thread::sleep_for(20ms);  // so that whoever puts the same is between the steps too
        try {
            MemoryStore::put(mail);
        } catch (const std::invalid_argument&) {
        }
    }
};

struct MiscountsInFlight : Mistaken {
    using Mistaken::Mistaken;
    QueueStats stats() override {
        auto out = MemoryStore::stats();
        out.in_flight = 0;
        return out;
    }
};

template <class... Kinds>
void are_found(const std::vector<Promise>& promises, const std::vector<std::string>& kinds) {
    const std::vector<bool> all{found<Kinds>(promises)...};
    REQUIRE(kinds.size() == all.size());
    for (std::size_t i = 0; i < all.size(); ++i) CHECK_MESSAGE(all[i], kinds[i], " was not found out");
}

std::vector<std::string> words(const std::string& text) {
    std::vector<std::string> out{""};
    for (char c : text)
        if (c == ',') out.emplace_back();
        else if (c != ' ') out.back() += c;
    return out;
}

#define ARE_FOUND(promises, ...) are_found<__VA_ARGS__>(promises, words(#__VA_ARGS__))

}  // namespace

STORE_KEEPS_ITS_PROMISES("a store in memory", led_by_one)
STORE_KEEPS_ITS_PROMISES("a store in memory that all lead", led_by_all)

TEST_CASE("the suite for stores finds out who does not keep what is put there") {
    ARE_FOUND(kept_promises, LosesOneOfMany, LosesDuplicates, CutsTextAtNul, CutsHeadAtNul, CutsEnvidAtNul,
              CutsOrcptAtNul, LosesEmptyAuth, LosesRet, LosesBodyType, LosesUtf8, LosesNever, LosesDelay,
              LosesOrcptType, LowersSender, LowersRecipient, CutsLargeBodies, KeepsSeconds, LosesArrival, LosesHead,
              MixesCaseOfIds, CutsIds, TakesAnyId, ReplacesTakenId, GivesOutTheSendersOwn, CutsTextsAhead);
}

TEST_CASE("the suite for stores finds out who gives out the wrong thing") {
    ARE_FOUND(given_promises, GivesOutTwice, GivesOutMore, GivesOutEarly, GivesOutLastFirst, GivesOutApart,
              GivesOutNoOthers, GivesOutAllOthers, TrustsTheClock, ForgetsWhoHasIt, GivesBackAll, GivesNothingBack,
              ComparesWithoutOrder, BeginsAgainAtEmpty);
}

TEST_CASE("the suite for stores finds out who records something else") {
    ARE_FOUND(given_promises, RecordsNoticesFirst, RecordsVerdictsFirst, LosesNotices, RecordsOneOnly,
              CountsEveryAttempt, CountsNoAttempt, LosesWarned, LosesReply, LosesHost, CutsReplyAtNul, NeverDone,
              AllDone, RetriesAtOnce, FreesTheRest, SaysAlwaysTrue, KeepsWholeReplies);
}

TEST_CASE("the suite for stores finds out who looks after it badly") {
    ARE_FOUND(care_promises, LosesHold, GivesOutHeld, FlushesHeld, FlushesAllForOne, CancelsInFlight, CancelsNotAtAll,
              SkipsAPage, MiscountsInFlight);
}

TEST_CASE("the suite for stores finds out who does not share it well") {
    ARE_FOUND(shared_promises, PutsInTwoSteps, NoticesNothing, NoticesAlways, LeadsAlways, DiesWithItsMail);
}
