// smtpd -- a mail server to run: takes mail, keeps it in a durable queue and delivers it; doc/DAEMON.md is its manual.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <Net/SMTP/Server.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <thread>

#include "smtpd/background.hpp"
#include "smtpd/command.hpp"
#include "smtpd/command_line.hpp"
#include "smtpd/orders.hpp"
#include "smtpd/service.hpp"
#include "smtpd/signals.hpp"

namespace {

void help() {
    std::puts(
        "Takes mail, keeps it in a durable queue and delivers it.\n\n"
        "usage: smtpd [--config FILE] [--OPTION VALUE]... [--check]\n\n"
        "FILE holds options too: OPTION = VALUE in each line, or JSON (.json), or XML (.xml).\n"
        "What is on the command line wins. --check says whether all of it can be used, and ends.\n");
    for (const auto& option : option_table()) {
        std::printf("  %s = %s\n      %s", option.name, option.valid, option.what);
        std::printf(*option.otherwise ? " (default: %s)\n" : "\n", option.otherwise);
    }
}

// Everything but the queue and the listeners. BadConfig.
void check(const Settings& given) {
    const auto resolver = make_resolver(given);
    const auto routing = std::make_shared<const Routing>(given, own_hostname(given), resolver, Net::SMTP::Overhear());
    policies(given, resolver, routing, true);
    schedule_of(given);
    Net::SMTP::Options options;
    if (const auto certificates = read_certificates(given)) options.tls = certificates;
    if (const auto accounts = read_accounts(given)) options.auth = std::make_shared<Net::SMTP::Sasl>(accounts);
    secure(options, given);
    const auto log = given.text("log");
    for (const auto& name : door_names()) check_door(name, given, options);
    if (!given.text("user").empty()) identity_of(given);
    if (given.flag("daemon") && (log == "stderr" || given.text("transcript") == "stderr"))
        given.refuse("daemon", "it has no stderr for log and transcript in the background");
}

// A right that a service manager has given us, to listen on low ports say, is not for the commands that mail is piped
// into. Before there are threads.
void keep_rights_to_ourselves() { prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); }

// So that no file of ours is taken for them: where one of the three is closed it is made to lead nowhere.
void fill_standard_descriptors() {
    int fd = -1;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2) close(fd);
}

// Until a signal ends it. BadConfig; what the system refuses is thrown as it is.
void serve(const CommandLine& line, const Settings& given, Background* background) {
    Orders orders;
    const Signals signals([&] { orders.end(); }, [&] { orders.again(); });
    Service service(line, given);
    orders.on_end([&] { service.stop(); });
    std::thread keeper([&] {
        while (orders.wait_for_again()) service.reload();
        service.stop_queue();
    });
    std::exception_ptr failure;
    try {
        service.run([&] {
            if (background) background->ready();
        });
    } catch (...) {
        failure = std::current_exception();
    }
    orders.end();
    keeper.join();
    if (failure) std::rethrow_exception(failure);
}

int failed(const std::exception& e, int status) {
    std::fprintf(stderr, "smtpd: %s\n", e.what());
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    std::optional<CommandLine> line;
    std::optional<Settings> given;
    try {
        fill_standard_descriptors();
        keep_rights_to_ourselves();
        Command::become({argv, static_cast<std::size_t>(argc)});
        Command::take_all_descriptors();
        line.emplace(argc, argv);
        if (line->help) return help(), 0;
        if (!line->words.empty()) throw BadConfig(line->words.front() + ": there is no such argument; see --help");
        given.emplace(line->options, line->config);
        if (line->check || given->flag("daemon")) check(*given);
        if (line->check) return 0;
    } catch (const std::exception& e) {
        return failed(e, 2);
    }
    try {
        std::optional<Background> background;
        if (given->flag("daemon")) background.emplace();
        Signals::block();
        serve(*line, *given, background ? &*background : nullptr);
        return 0;
    } catch (const BadConfig& e) {
        return failed(e, 2);
    } catch (const std::exception& e) {
        return failed(e, 1);
    }
}
