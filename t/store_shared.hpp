// store_shared -- promises of stores to many at once: threads, other stores on the same place, later ones, children.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <set>

#include "store_place.hpp"

namespace test::stores {

// Each may have been given out once.
class Given {
public:
    // False: somebody had been given one of them.
    bool add(const std::vector<QueueTask>& tasks) {
        const std::lock_guard lock(mutex_);
        bool first = true;
        for (const auto& task : tasks)
            for (const auto& to : task.to) first &= seen_.insert({task.message, to.number}).second;
        return first;
    }
    std::size_t count() const { return seen_.size(); }

private:
    std::mutex mutex_;
    std::set<std::pair<std::int64_t, std::uint32_t>> seen_;
};

// Does it in a forked child; how it ended, 0 when `work` says true.
class Child {
public:
    explicit Child(const std::function<bool()>& work) {
        std::fflush(nullptr);
        pid_ = fork();
        if (pid_ != 0) return;
        alarm(120);
        bool well = false;
        try {
            well = work();
        } catch (const std::exception& e) {
            std::fprintf(stderr, "a child: %s\n", e.what());
        }
        _exit(well ? 0 : 1);
    }
    ~Child() { (void)well(); }
    pid_t id() const { return pid_; }
    bool well() {
        int status = -1;
        if (pid_ > 0) waitpid(std::exchange(pid_, 0), &status, 0);
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
            std::fprintf(stderr, "a child: ended by signal %d\n", WTERMSIG(status));
        return status == 0;
    }

private:
    pid_t pid_;
};

// Until the store says that nobody has changed anything; then whether it notices what is done.
inline bool noticed(Store& store, const std::function<void()>& action) {
    if (!in_the_end([&] { return !store.changed(); })) return false;
    action();
    return in_the_end([&] { return store.changed(); });
}

inline const std::vector<Promise> shared_promises{
    {"what many threads put at once is all there",
     [](StorePlace& place) {
         const auto store = place.open();
         at_once(16, [&](int thread) {
             for (int i = 0; i < 25; ++i) {
                 auto mail = letter(std::to_string(thread) + "." + std::to_string(i));
                 if (i % 5 == 0) mail.text = Message(binary(200'000));
                 store->put(mail);
                 MUST(store->item(mail.id).has_value());
             }
         });
         const auto items = store->items(0, 1000);
         std::set<std::string> seen;
         for (const auto& item : items) {
             seen.insert(item.id);
             const bool large = item.id.ends_with('0') || item.id.ends_with('5');
             const auto text = store->look(item.id);
             MUST(item.size + letter("x").head.size() == text->size());
             MUST(large || text->view().ends_with(letter(item.id).text.view()));
         }
         MUST(items.size() == 400 && seen.size() == 400);
         MUST(store->stats().messages == 400);
     }},
    {"of many who put the same id at once one succeeds",
     [](StorePlace& place) {
         const auto store = place.open();
         for (int round = 0; round < 5; ++round) {
             std::atomic<int> stored{0};
             std::atomic<int> who{-1};
             at_once(8, [&](int thread) {
                 const auto mail = letter("m" + std::to_string(round), {"r" + std::to_string(thread) + "@example.org"});
                 if (refused([&] { store->put(mail); })) return;
                 ++stored;
                 who = thread;
             });
             MUST(stored == 1);
             MUST(store->items(0, 100).size() == std::size_t(round) + 1);
             MUST(store->items(0, 100).back().to.front().recipient.local == "r" + std::to_string(who));
         }
     }},
    {"sixteen threads that claim, record and give back get nothing that somebody else has, and leave nothing",
     [](StorePlace& place) {
         const auto store = leading(place);
         for (int i = 0; i < 200; ++i) {
             auto mail = letter("m" + std::to_string(i));
             mail.to = recipients(5, "example.org");
             store->put(mail);
         }
         Given given;
         std::set<std::pair<std::int64_t, std::uint32_t>> out;  // at this moment
         std::mutex mutex;
         const auto take = [&](const QueueTask& task, bool in) {
             const std::lock_guard lock(mutex);
             for (const auto& to : task.to) {
                 const bool alone =
                     in ? out.insert({task.message, to.number}).second : out.erase({task.message, to.number}) == 1;
                 MUST(alone);
             }
         };
         at_once(16, [&](int thread) {
             unsigned turn = unsigned(thread);
             MUST(in_the_end([&] {
                 const auto tasks = claim(*store, "example.org", 7);
                 for (const auto& task : tasks) {
                     take(task, true);
                     take(task, false);
                     if (turn++ % 4 == 0) {
                         store->give_back(task);
                     } else {
                         MUST(given.add({task}));
                         MUST(finish(*store, task));
                     }
                 }
                 return tasks.empty() && store->stats().messages == 0;
             }));
         });
         MUST(given.count() == 1000);
         MUST(store->items(0, 10).empty());
     }},
    {"two stores on one place never give out the same, and what one has given out the other shows",
     [](StorePlace& place) {
         const auto one = place.open(), two = place.open();
         for (int i = 0; i < 100; ++i) (i % 2 ? one : two)->put(letter("m" + std::to_string(i)));
         MUST(in_the_end([&] { return one->lead() || two->lead(); }));
         MUST(!place.one_leader() || one->lead() != two->lead());
         Given given;
         at_once(8, [&](int thread) {
             auto& store = thread % 2 ? *one : *two;
             if (!store.lead()) return;
             while (true) {
                 const auto tasks = claim(store, "example.org", 3);
                 if (tasks.empty()) return;
                 MUST(given.add(tasks));
             }
         });
         MUST(given.count() == 100);
         MUST(one->stats().in_flight == 100 && two->stats().in_flight == 100);
         MUST(two->cancel("m0") == Cancelled::in_flight && one->cancel("m0") == Cancelled::in_flight);
     }},
    {"a message is either cancelled or given out",
     [](StorePlace& place) {
         const auto store = leading(place);
         for (int i = 0; i < 100; ++i) store->put(letter("m" + std::to_string(i)));
         std::atomic<int> cancelled{0}, given{0};
         at_once(4, [&](int thread) {
             if (thread % 2 == 0) {
                 for (int i = 0; i < 100; ++i)
                     cancelled += store->cancel("m" + std::to_string(99 - i)) == Cancelled::found;
                 return;
             }
             for (std::vector<QueueTask> tasks; !(tasks = claim(*store, "example.org", 2)).empty();)
                 for (const auto& task : tasks) {
                     MUST(store->text(task).view() == letter(task.id).text.view());
                     ++given;
                 }
         });
         MUST(cancelled + given == 100);
         MUST(store->stats().in_flight == std::uint64_t(given) && store->stats().messages == std::uint64_t(given));
     }},
    {"once hold() has returned nothing of it is given out",
     [](StorePlace& place) {
         const auto store = leading(place);
         for (int i = 0; i < 100; ++i) store->put(letter("m" + std::to_string(i)));
         std::atomic<int> held{0};  // so many, from the first
         at_once(4, [&](int thread) {
             if (thread == 0) {
                 for (int i = 0; i < 100; ++i) {
                     MUST(store->hold("m" + std::to_string(99 - i)));
                     held = i + 1;
                 }
                 return;
             }
             while (held < 100) {
                 const int before = held;
                 for (const auto& task : claim(*store, "example.org", 1))
                     MUST(std::stoi(task.id.substr(1)) < 100 - before);
             }
         });
         MUST(claim(*store).empty());
         MUST(store->stats().held == 100);
     }},
    {"another store on the place sees what has been done, and is told that something was",
     [](StorePlace& place) {
         const auto one = leading(place), two = place.open();
         (void)one->changed();
         MUST(noticed(*one, [&] { two->put(letter("m", queue_now() + 1h)); }));
         MUST(one->item("m") && one->look("m")->view() == two->look("m")->view());
         MUST(noticed(*one, [&] { MUST(two->hold("m")); }));
         MUST(one->item("m")->held);
         MUST(noticed(*one, [&] { MUST(two->release("m")); }));
         MUST(noticed(*one, [&] { MUST(two->flush("m") == 1); }));
         const auto task = only(claim(*one));
         MUST(two->item("m")->in_flight());
         MUST(two->cancel("m") == Cancelled::in_flight);
         MUST(noticed(*one, [&] { two->set("paused", "yes"); }));
         MUST(one->setting("paused") == "yes");
         MUST(noticed(*two, [&] { MUST(defer(*one, task, queue_now() + 1h)); }));
         MUST(two->item("m")->to.front().attempts == 1);
         MUST(noticed(*one, [&] { MUST(two->cancel("m") == Cancelled::found); }));
         MUST(!one->item("m"));
     }},
    {"a store that is opened later has everything",
     [](StorePlace& place) {
         const auto soon = queue_now() + 1h;
         std::int64_t last = 0;
         {
             const auto store = leading(place);
             auto mail = letter("m", {"a@example.org", "b@example.org", "c@example.org", "postmaster"});
             mail.text = Message(binary(300'000));
             store->put(mail);
             auto task = only(claim(*store));
             auto verdict = later(0, soon);
             verdict.warned = true;
             MUST(record(*store, task, {verdict, done(1)}, {letter("notice")}));
             store->give_back(task);
             store->put(letter("held"));
             MUST(store->hold("held"));
             store->set("paused", "yes");
             last = store->item("held")->message;
         }
         const auto store = leading(place);
         MUST(ids(store->items(0, 10)) == std::vector<std::string>{"m", "notice", "held"});
         const auto item = store->item("m");
         MUST(item->to.size() == 3);
         MUST(item->to[0].attempts == 1 && item->to[0].due == soon && item->to[0].last.code == 451 &&
              item->to[0].last.text == "Later" && item->to[0].host == "mx.example.org");
         MUST(store->look("m")->view() == letter("m").head + binary(300'000));
         MUST(store->item("held")->held && store->stats().held == 1);
         MUST(store->setting("paused") == "yes");
         MUST(names(store->domains(std::nullopt, 10)) == std::vector<std::string>{"", "example.org"});
         auto given = ids(claim(*store));
         std::ranges::sort(given);
         MUST(given == std::vector<std::string>{"m", "notice"});
         const auto first = only(store->claim("example.org", soon, 10));
         MUST(first.to.front().warned && first.to.front().attempts == 1);
         MUST(refused([&] { store->put(letter("held")); }));
         store->put(letter("new"));
         MUST(store->item("new")->message > last);
     }},
    {"what was given out by a store that is no more is given out by another; no number comes twice",
     [](StorePlace& place) {
         auto dead = leading(place);
         dead->put(letter("m", {"a@example.org", "b@example.org"}));
         const auto task = only(claim(*dead));
         MUST(record(*dead, task, {later(0, queue_now() - 1s)}));
         dead.reset();
         const auto store = leading(place);
         std::vector<QueueTask> again;
         MUST(in_the_end([&] {
             for (const auto& more : claim(*store)) again.push_back(more);
             return recipients_in(again) == 2;
         }));
         for (const auto& part : again)
             for (const auto& to : part.to) MUST(to.attempts == (to.number == 0 ? 1U : 0U));
         for (const auto& part : again) MUST(finish(*store, part));
         store->put(letter("n"));
         MUST(store->item("n")->message > task.message);
     }},
};

// For places that other processes see.
inline const std::vector<Promise> process_promises{
    {"a forked child puts mail with the store that it has inherited, and its end harms nobody",
     [](StorePlace& place) {
         const auto store = leading(place);
         store->put(letter("before"));
         const auto out = only(claim(*store));
         Child child([&] {
             for (int i = 0; i < 20; ++i) {
                 auto mail = letter("child" + std::to_string(i));
                 mail.text = Message(binary(std::size_t(i) * 20'000));
                 store->put(mail);
             }
             return store->item("child3").has_value() && store->item("before").has_value();
         });
         for (int i = 0; i < 20; ++i) store->put(letter("parent" + std::to_string(i)));
         MUST(child.well());
         MUST(store->stats().messages == 41);
         for (int i = 0; i < 20; ++i)
             MUST(store->look("child" + std::to_string(i))->view() ==
                  letter("x").head + binary(std::size_t(i) * 20'000));
         MUST(recipients_in(claim(*store)) == 40);
         MUST(store->item("before")->in_flight());
         MUST(finish(*store, out));
     }},
    {"a child that destroys what it has inherited takes nothing away: what is given out stays so, and the lead",
     [](StorePlace& place) {
         auto store = leading(place);
         store->put(letter("m"));
         const auto task = only(claim(*store));
         MUST(Child([&] {
                  store->put(letter("child"));
                  store.reset();
                  return true;
              }).well());
         MUST(Child([&] {
                  store.reset();  // without having used it
                  return true;
              }).well());
         MUST(store->item("m")->in_flight());
         const auto other = place.open();
         MUST(!place.one_leader() || !other->lead());
         MUST(store->lead());
         if (other->lead()) MUST(only(claim(*other)).id == "child");
         MUST(finish(*store, task));
         store->put(letter("after"));
         MUST(in_the_end([&] { return other->item("after").has_value(); }));
     }},
    {"children that put at once, each with threads, lose nothing, and the same id is taken once",
     [](StorePlace& place) {
         const auto store = place.open();
         const auto work = [&](int child) {
             at_once(3, [&](int thread) {
                 for (int i = 0; i < 10; ++i) {
                     const auto which = "." + std::to_string(i);
                     put_in_the_end(*store, letter(std::to_string(child) + "." + std::to_string(thread) + which));
                     (void)refused([&] { put_in_the_end(*store, letter("same" + which)); });
                 }
             });
             return true;
         };
         std::vector<std::unique_ptr<Child>> children;
         for (int child = 0; child < 3; ++child)
             children.push_back(std::make_unique<Child>([&work, child] { return work(child); }));
         for (const auto& child : children) MUST(child->well());
         MUST(store->stats().messages == 100);
     }},
    {"what a child has put in and was killed right after is there for whoever comes later",
     [](StorePlace& place) {
         {
             const auto store = place.open();
             Child child([&] {
                 for (int i = 0; i < 5; ++i) {
                     auto mail = letter("m" + std::to_string(i));
                     mail.text = Message(binary(150'000));
                     store->put(mail);
                 }
                 kill(getpid(), SIGKILL);
                 return false;
             });
             MUST(!child.well());
         }
         const auto store = place.open();
         MUST(store->items(0, 10).size() == 5);
         for (const auto& item : store->items(0, 10))
             MUST(store->look(item.id)->view() == letter("x").head + binary(150'000));
     }},
    {"a process that leads and dies leaves its lead and what it has been given to another",
     [](StorePlace& place) {
         place.open()->put(letter("m"));
         Child child([&] {
             const auto store = leading(place);
             const auto task = only(claim(*store));
             kill(getpid(), SIGKILL);
             return false;
         });
         MUST(!child.well());
         const auto store = leading(place);
         std::vector<QueueTask> tasks;
         MUST(in_the_end([&] { return !(tasks = claim(*store)).empty(); }));
         MUST(finish(*store, only(tasks)));
     }},
};

}  // namespace test::stores
